// ts-mls behind JSON lines: one request a line on stdin, {"id", "call", ...arguments}, one answer a line on
// stdout, {"id", "ok": {...}} or {"id", "error": class name}. Bytes are base64 and travel as complete MLSMessages.
// One process plays any number of clients, each by the name that the requests give it.

import { createInterface } from "node:readline"
import * as mls from "ts-mls"

const SUITES = {
  1: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
  3: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
}

const clients = new Map()

const toBase64 = (bytes) => Buffer.from(bytes).toString("base64")
const fromBase64 = (text) => new Uint8Array(Buffer.from(text ?? "", "base64"))

function encodeMessage(wireformat, field, value) {
  const message = { version: mls.protocolVersions.mls10, wireformat, [field]: value }
  return toBase64(mls.encode(mls.mlsMessageEncoder, message))
}

function decodeMessage(text) {
  const message = mls.decode(mls.mlsMessageDecoder, fromBase64(text))
  if (message === undefined) throw new mls.CodecError("not an MLSMessage")
  return message
}

function credentialOf({ identity, certificates }) {
  if (certificates !== undefined)
    return { credentialType: mls.defaultCredentialTypes.x509, certificates: certificates.map(fromBase64) }
  return { credentialType: mls.defaultCredentialTypes.basic, identity: fromBase64(identity) }
}

async function contextOf(suite) {
  const cipherSuite = await mls.getCiphersuiteImpl(SUITES[suite], mls.nobleCryptoProvider)
  return { cipherSuite, authService: mls.unsafeTestingAuthenticationService }
}

// ExternalPub holds an HPKEPublicKey, which is a vector (RFC 9420, 12.4.3.2 and 5.1.1). ts-mls up to 2.0.0-rc.10 puts
// the bare key there (its pull request 449 mends that after this release). Its key import and export are wrapped for
// that one extension, so that what is on the wire is the RFC's.
const VECTOR_OF_32 = 0x20

function writingExternalPub(cipherSuite) {
  const exportPublicKey = async (key) =>
    new Uint8Array([VECTOR_OF_32, ...(await cipherSuite.hpke.exportPublicKey(key))])
  return { ...cipherSuite, hpke: { ...cipherSuite.hpke, exportPublicKey } }
}

function readingExternalPub(context) {
  const { cipherSuite } = context
  const importPublicKey = (bytes) =>
    cipherSuite.hpke.importPublicKey(bytes.length === 33 && bytes[0] === VECTOR_OF_32 ? bytes.slice(1) : bytes)
  return { ...context, cipherSuite: { ...cipherSuite, hpke: { ...cipherSuite.hpke, importPublicKey } } }
}

function find(name) {
  const client = clients.get(name)
  if (client === undefined) throw new mls.UsageError("no such client")
  return client
}

function keep(client, { newState, consumed }) {
  client.state = newState
  for (const secret of consumed ?? []) mls.zeroOutUint8Array(secret)
}

const calls = {
  // A client with a fresh KeyPackage. `extensions` are the extension types that its leaf supports.
  async key_package({ client, suite, extensions = [], ...credential }) {
    const context = await contextOf(suite)
    const capabilities = { ...mls.defaultCapabilities(), extensions }
    const keyPackage = await mls.generateKeyPackage({
      credential: credentialOf(credential),
      capabilities,
      cipherSuite: context.cipherSuite,
    })
    clients.set(client, { context, ...keyPackage, state: undefined })
    return {
      key_package: encodeMessage(mls.wireformats.mls_key_package, "keyPackage", keyPackage.publicPackage),
    }
  },

  async create({ client, group_id, extensions = [] }) {
    const one = find(client)
    one.state = await mls.createGroup({
      context: one.context,
      groupId: fromBase64(group_id),
      keyPackage: one.publicPackage,
      privateKeyPackage: one.privatePackage,
      extensions: extensions.map(([type, data]) =>
        mls.makeCustomExtension({ extensionType: type, extensionData: fromBase64(data) }),
      ),
    })
    return {}
  },

  // Adds, removes, or with neither a Commit with nothing but a path.
  async commit({ client, add = [], remove = [], as_public = false, tree_in_welcome = true, authenticated_data }) {
    const one = find(client)
    const adds = add.map((text) => ({
      proposalType: mls.defaultProposalTypes.add,
      add: { keyPackage: decodeMessage(text).keyPackage },
    }))
    const removes = remove.map((removed) => ({
      proposalType: mls.defaultProposalTypes.remove,
      remove: { removed },
    }))
    const result = await mls.createCommit({
      context: one.context,
      state: one.state,
      extraProposals: [...removes, ...adds],
      ratchetTreeExtension: tree_in_welcome,
      wireAsPublicMessage: as_public,
      authenticatedData: fromBase64(authenticated_data),
    })
    keep(one, result)
    return {
      commit: toBase64(mls.encode(mls.mlsMessageEncoder, result.commit)),
      welcome: result.welcome && toBase64(mls.encode(mls.mlsMessageEncoder, result.welcome)),
    }
  },

  async join({ client, welcome }) {
    const one = find(client)
    one.state = await mls.joinGroup({
      context: one.context,
      welcome: decodeMessage(welcome).welcome,
      keyPackage: one.publicPackage,
      privateKeys: one.privatePackage,
    })
    return {}
  },

  async external_join({ client, group_info, resync = false }) {
    const one = find(client)
    const result = await mls.joinGroupExternal({
      context: readingExternalPub(one.context),
      groupInfo: decodeMessage(group_info).groupInfo,
      keyPackage: one.publicPackage,
      privateKeys: one.privatePackage,
      resync,
    })
    keep(one, result)
    return {
      commit: encodeMessage(mls.wireformats.mls_public_message, "publicMessage", result.publicMessage),
    }
  },

  async process({ client, message }) {
    const one = find(client)
    const result = await mls.processMessage({
      context: one.context,
      state: one.state,
      message: decodeMessage(message),
    })
    keep(one, result)
    if (result.kind !== "applicationMessage") return { kind: "commit" }
    return {
      kind: "application",
      data: toBase64(result.message),
      authenticated_data: toBase64(result.aad),
    }
  },

  async encrypt({ client, data, authenticated_data }) {
    const one = find(client)
    const result = await mls.createApplicationMessage({
      context: one.context,
      state: one.state,
      message: fromBase64(data),
      authenticatedData: fromBase64(authenticated_data),
    })
    keep(one, result)
    return { message: toBase64(mls.encode(mls.mlsMessageEncoder, result.message)) }
  },

  async export({ client, label, context, length }) {
    const one = find(client)
    const { exporterSecret } = one.state.keySchedule
    const secret = await mls.mlsExporter(exporterSecret, label, fromBase64(context), length, one.context.cipherSuite)
    return { secret: toBase64(secret) }
  },

  async group_info({ client }) {
    const one = find(client)
    const cipherSuite = writingExternalPub(one.context.cipherSuite)
    const groupInfo = await mls.createGroupInfoWithExternalPubAndRatchetTree(one.state, [], cipherSuite)
    return { group_info: encodeMessage(mls.wireformats.mls_group_info, "groupInfo", groupInfo) }
  },

  async status({ client }) {
    const { state } = find(client)
    return {
      active: state.groupActiveState.kind === "active",
      epoch: Number(state.groupContext.epoch),
      leaf_index: state.privatePath.leafIndex,
      members: mls.getGroupMembers(state).length,
      epoch_authenticator: toBase64(state.keySchedule.epochAuthenticator),
      tree_hash: toBase64(state.groupContext.treeHash),
      confirmed_transcript_hash: toBase64(state.groupContext.confirmedTranscriptHash),
    }
  },
}

async function answer(line) {
  const { id, call, ...parameters } = JSON.parse(line)
  try {
    return { id, ok: await calls[call](parameters) }
  } catch (error) {
    return { id, error: error?.name ?? "Error", detail: error?.message }
  }
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(JSON.stringify(await answer(line)) + "\n")
