// contract.mjs - the suite's messages as a stranger sees them: protobufjs on the .proto files, nothing of ours.
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import { headers as natsHeaders } from 'nats';

export const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const protoDir = path.join(top, 'proto');
const root = new protobuf.Root();
root.resolvePath = (_origin, target) => path.join(protoDir, target);
for (const name of ['report', 'heartbeat', 'health', 'breaker', 'fallback', 'alert', 'audit', 'command', 'action', 'incident', 'continuity', 'rollback'])
  root.loadSync(`redoubt/v1/${name}.proto`, { keepCase: true });

export function type(name) {
  return root.lookupType(`redoubt.v1.${name}`);
}

export function encode(name, object) {
  return type(name).encode(type(name).fromObject(object)).finish();
}

// Enumerations come as their names, 64-bit numbers as numbers, absent fields as their defaults.
export function decode(name, bytes) {
  return type(name).toObject(type(name).decode(bytes), { longs: Number, enums: String, defaults: true, arrays: true });
}

// The headers that proto/README.md asks of a producer.
export function ceHeaders(name, id, source) {
  const h = natsHeaders();
  h.set('ce-specversion', '1.0');
  h.set('ce-id', id);
  h.set('ce-source', source);
  h.set('ce-type', `redoubt.v1.${name}`);
  h.set('ce-time', new Date().toISOString());
  h.set('datacontenttype', 'application/protobuf');
  h.set('Nats-Msg-Id', id);
  return h;
}
