"""Schedules from elsewhere: iCalendar, Amion's text, plain CSV; each read in a bounded worker."""
