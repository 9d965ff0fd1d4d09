"""What the program says about itself: help, and the tour of the first run.

No line is longer than 74 columns, so that none wraps where the screen has 80.
"""

from __future__ import annotations

HELP = (
    "EVERYWHERE",
    "  F1 or ?   this help              Esc      back, one step",
    "  Ctrl-L    lock now               Ctrl-Q   quit",
    "  Ctrl-O    sign out               F8       to what is STAT and unread",
    "  F9        light or dark",
    "",
    "CONVERSATIONS",
    "  Enter  open                      c  new conversation",
    "  b  who is on call                p  page whoever is on call for a role",
    "  g  pages, and how they go        /  search messages and people",
    "  v  your devices                  l  lock",
    "  e  ask for emergency access: two colleagues must vouch",
    "",
    "A THREAD",
    "  w or Tab  write                  Enter  what can I do with this message",
    "  t  what comes next: take or finish a task, read a value back,",
    "     close a result, accept a hand-off, claim a shift",
    "  r  reply                         k  acknowledge        +  react",
    "  e  change your message           x  take it back, while nobody has read it",
    "  i  details: who has read it, and when",
    "  n  new task, critical result, hand-off, check-in, place",
    "  f  send a file                   s  save one",
    "  m  members: add, remove, mute, moderators, emergency access, leave",
    "  u  no sound from this conversation, or again",
    "",
    "WRITING",
    "  Enter sends. Ctrl-J begins a line. Letters are only ever letters here.",
    "  Ctrl-T or F2: priority. Ctrl-R or F3: ask for an acknowledgement.",
    "  F4: a file.",
    "",
    "A PAGE",
    "  a accept   d decline   n not mine   o done   Enter read it   Esc later",
    "  The keys count only after you have stopped typing for a second.",
    "",
    "WORDS BELOW YOUR MESSAGES",
    "  waiting to be sent   goes out by itself once there is a network",
    "  sent                 the relay has it; it is not lost any more",
    "  delivered, read      on so many people's devices, screens",
    "  archived             the archive has proved that it keeps it",
)

TOUR = (
    "1. Only the people in a conversation read it, and the hospital's archive",
    "   keeps it, sealed. The relay in between reads nothing.",
    "",
    "2. Every message says how far it got: sent, delivered, read, archived.",
    "   Whoever is off duty is never rung, not even by STAT: for that, see 3.",
    "",
    "3. To reach whoever is on call, press p and choose the role, not a name.",
    "   A page goes on to the next person until somebody accepts.",
    "",
    "4. When you are paged: a accepts, d declines, n is not mine, o is done.",
    "   Typing never answers a page.",
    "",
    "5. You are asked once more before something goes to somebody off duty,",
    "   or to somebody called nearly like somebody else.",
    "",
    "6. Ctrl-L locks; it locks by itself when nobody types for a while.",
    "   Lost it? wardline suspend, on another device; or call an administrator.",
    "? shows every key. This is no primary alarm: monitors still count.",
)

OVER = (
    "Your shift has ended. When you lock, sign out or stop typing, this workstation forgets you: "
    "everything of yours is removed from it."
)

REMOVES = (
    "Policy: nothing of yours stays on a shared workstation.",
    "Your other devices and the archive keep what was said.",
    "To come back, enrol here again; another device of yours lets you in.",
)

UNSENT = (
    ("stay", "s", "Stay: they go out by themselves once there is a network"),
    ("lock", "l", "Lock: they stay here, and go out when you unlock"),
    ("lose", "x", "Sign out: they are lost, and nobody ever gets them"),
)
"""What can become of messages that have not gone out, when their sender signs out."""
