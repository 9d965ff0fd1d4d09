// What bench/crypto.py measures, for ts-mls: one JSON object on stdout, figure by name. Times are CPU
// milliseconds of the whole Node process, the best of the repeats. A figure that ts-mls refuses is its error's text.
// Usage: node crypto_ts_mls.mjs '{"members": 1000, "repeats": 3, "module": "path of ts-mls"}'

import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { pathToFileURL } from "node:url"

const { members, repeats, module } = JSON.parse(process.argv[2])
const mls = await import(pathToFileURL(module))

// The faster of its two providers: WebCrypto's asynchronous hashes cost it two to five times as much.
const cipherSuite = await mls.getCiphersuiteImpl(
  "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
  mls.nobleCryptoProvider,
)
const context = { cipherSuite, authService: mls.unsafeTestingAuthenticationService }
const figures = {}

async function cpu(work) {
  const before = process.cpuUsage()
  const result = await work()
  const used = process.cpuUsage(before)
  return [(used.user + used.system) / 1000, result]
}

async function best(name, work, times = repeats) {
  let result
  try {
    for (let i = 0; i < times; i++) {
      const [ms, value] = await cpu(work)
      figures[name] = Math.min(figures[name] ?? Infinity, ms)
      result = value
    }
  } catch (error) {
    figures[name] = `refused: ${error.message}`
  }
  return result
}

// Many short calls: the time of one, from the time of all.
async function bestOfMany(name, count, work) {
  for (let i = 0; i < repeats; i++) {
    const [ms] = await cpu(() => work(count))
    figures[name] = Math.min(figures[name] ?? Infinity, ms / count)
  }
}

const keyPackage = (name) =>
  mls.generateKeyPackage({
    credential: { credentialType: mls.defaultCredentialTypes.basic, identity: new TextEncoder().encode(name) },
    capabilities: { ...mls.defaultCapabilities(), credentials: [1, 2], ciphersuites: [1, 3] },
    cipherSuite,
  })

const wire = (message) => mls.encode(mls.mlsMessageEncoder, message)
const parse = (bytes) => mls.decode(mls.mlsMessageDecoder, bytes)

const wireKeyPackage = (one) =>
  wire({
    version: mls.protocolVersions.mls10,
    wireformat: mls.wireformats.mls_key_package,
    keyPackage: one.publicPackage,
  })

const addOf = (bytes) => ({
  proposalType: mls.defaultProposalTypes.add,
  add: { keyPackage: parse(bytes).keyPackage },
})

const create = (one) =>
  mls.createGroup({
    context,
    groupId: new TextEncoder().encode("bench"),
    keyPackage: one.publicPackage,
    privateKeyPackage: one.privatePackage,
  })

const commit = async (state, add = []) => {
  const result = await mls.createCommit({
    context,
    state,
    extraProposals: add.map(addOf),
    ratchetTreeExtension: add.length > 0,
  })
  return { state: result.newState, commit: wire(result.commit), welcome: result.welcome && wire(result.welcome) }
}

const join_ = (one, welcome) =>
  mls.joinGroup({
    context,
    welcome: parse(welcome).welcome,
    keyPackage: one.publicPackage,
    privateKeys: one.privatePackage,
  })

const process_ = (state, message) => mls.processMessage({ context, state, message: parse(message) })

// What the member at another leaf holds: the group's secrets are everybody's, the signature key its own. That
// is enough to send a Commit, and saves a thousand joins.
const seat = (state, leafIndex, people) => ({
  ...state,
  privatePath: { leafIndex, privateKeys: {} },
  signaturePrivateKey: people[leafIndex].privatePackage.signaturePrivateKey,
})

function spread(count) {
  const width = Math.ceil(Math.log2(count))
  const reversed = (n) => parseInt(n.toString(2).padStart(width, "0").split("").reverse().join(""), 2)
  return Array.from({ length: 1 << width }, (_, n) => reversed(n)).filter((n) => n < count && n % 2 === 0)
}

// Every parent node filled: each second leaf commits once, leaf 0 last and as itself.
async function warm(state, people) {
  for (const leaf of spread(members).filter((n) => n !== 0))
    state = (await commit(seat(state, leaf, people))).state
  return (await commit({ ...state, ...own(state, people) })).state
}

const own = (state, people) => ({
  privatePath: { leafIndex: 0, privateKeys: { 0: people[0].leafKey } },
  signaturePrivateKey: people[0].privatePackage.signaturePrivateKey,
})

async function measureGroup() {
  const people = []
  for (let i = 0; i < members; i++) people.push(await keyPackage(`m${i}`))
  people[0].leafKey = people[0].privatePackage.hpkePrivateKey
  const packages = people.slice(1).map(wireKeyPackage)
  const cold = await best("create_and_add", async () => commit(await create(people[0]), packages), Math.min(repeats, 2))
  await best("join_cold", () => join_(people[members - 1], cold.welcome))
  await best("commit_cold", () => commit(cold.state))
  const filled = await warm(cold.state, people)
  const late = await keyPackage("late")
  const grown = await commit(filled, [wireKeyPackage(late)])
  await best("join_warm", () => join_(late, grown.welcome))
  await best("commit_warm", () => commit(filled), repeats * 5)
  const others = await commit(seat(filled, members - 1, people))
  await best("process_warm", () => process_(filled, others.commit), repeats * 5)
}

async function pair() {
  const alice = await keyPackage("alice")
  const bob = await keyPackage("bob")
  const both = await commit(await create(alice), [wireKeyPackage(bob)])
  return [both.state, await join_(bob, both.welcome)]
}

async function encryptMany(state, count, data) {
  const messages = []
  for (let i = 0; i < count; i++) {
    const result = await mls.createApplicationMessage({ context, state, message: data })
    state = result.newState
    messages.push(wire(result.message))
  }
  return [state, messages]
}

async function measureMessages() {
  let [alice, bob] = await pair()
  const data = new Uint8Array(1024)
  const sent = []
  await bestOfMany("encrypt_1kib", 200, async (count) => {
    const [state, messages] = await encryptMany(alice, count, data)
    alice = state
    sent.push(messages)
  })
  await bestOfMany("decrypt_1kib", 200, async () => {
    for (const message of sent.shift()) bob = (await process_(bob, message)).newState
  })
}

// Ten messages, the first one late: what does the state that is then saved give away of the nine that were read?
async function measureStolenState() {
  const [alice, bob] = await pair()
  const [, messages] = await encryptMany(alice, 10, new Uint8Array(16))
  let state = bob
  for (const message of messages.slice(1)) state = (await process_(state, message)).newState
  const stolen = mls.decode(mls.clientStateDecoder, mls.encode(mls.clientStateEncoder, state))
  let opened = 0
  for (const message of messages.slice(1)) {
    try {
      await process_(rewound(stolen), message)
      opened += 1
    } catch {
      // Refused, as it should be.
    }
  }
  figures.stolen_state = opened
}

// The state with each ratchet set back to the earliest secret that it still holds.
function rewound(state) {
  const back = (ratchet) => {
    const generations = Object.keys(ratchet.unusedGenerations).map(Number)
    if (generations.length === 0) return ratchet
    const generation = Math.min(...generations)
    return { secret: ratchet.unusedGenerations[generation], generation, unusedGenerations: {} }
  }
  const leafNodes = Object.fromEntries(
    Object.entries(state.secretTree.leafNodes).map(([index, node]) => [
      index,
      { handshake: back(node.handshake), application: back(node.application) },
    ]),
  )
  return { ...state, secretTree: { ...state.secretTree, leafNodes } }
}

function publicNames() {
  const index = readFileSync(join(dirname(module), "index.d.ts"), "utf8")
  const names = [...index.matchAll(/export \{([^}]*)\}/g)].flatMap((match) => match[1].split(","))
  figures.public_names = names.filter((name) => name.trim() !== "").length
}

await measureGroup()
await measureMessages()
await measureStolenState()
publicNames()
process.stdout.write(JSON.stringify(figures) + "\n")
