// golden.mjs - what a released version has left behind (streams, consumers, Redis, files), kept as text, and put into fresh servers.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { headers as natsHeaders } from 'nats';
import { commandOptions } from 'redis';
import { until } from './wait.mjs';

const api = async (nc, subject, body) => {
  const r = JSON.parse((await nc.request(`$JS.API.${subject}`, body ? JSON.stringify(body) : undefined, { timeout: 10000 })).string());
  if (r.error) throw new Error(`${subject}: ${r.error.description} (${r.error.err_code})`);
  return r;
};

// ---- taking it ----

export async function saveStreams(nc) {
  const streams = [];
  for (const { config, state } of (await api(nc, 'STREAM.LIST')).streams) {
    const messages = [];
    for (let seq = state.first_seq; state.messages > 0 && seq <= state.last_seq; seq++) {
      const r = await api(nc, `STREAM.MSG.GET.${config.name}`, { seq }).catch((e) => { if (/10037/.test(e.message)) return null; throw e; });
      if (r) messages.push({ seq, subject: r.message.subject, headers: r.message.hdrs, data: r.message.data });
    }
    const consumers = (await api(nc, `CONSUMER.LIST.${config.name}`)).consumers.filter((c) => c.config.durable_name)
      .map((c) => ({ config: c.config, floor: c.ack_floor.stream_seq }));
    streams.push({ config, messages, consumers });
  }
  return streams;
}

export async function saveRedis(redis) {
  const keys = [];
  for (const key of (await redis.keys('*')).sort()) {
    const ttl_ms = await redis.pTTL(key), dump = await redis.dump(commandOptions({ returnBuffers: true }), key);
    if (dump) keys.push({ key, ttl_ms, dump: dump.toString('base64') }); // otherwise its time is over
  }
  return keys;
}

export function saveFiles(dir) {
  return fs.readdirSync(dir, { recursive: true, withFileTypes: true }).filter((f) => f.isFile() && f.name !== 'owner.lock')
    .map((f) => path.join(f.parentPath ?? f.path, f.name)).sort()
    .map((f) => ({ path: path.relative(dir, f), data: fs.readFileSync(f).toString('base64') }));
}

export function write(file, golden) {
  fs.writeFileSync(file, zlib.gzipSync(JSON.stringify(golden), { level: 9 }));
}

export function read(file) {
  return JSON.parse(zlib.gunzipSync(fs.readFileSync(file)));
}

// ---- putting it back ----

// Streams with the settings, contents, sequences and consumers that they had.
export async function loadStreams(nc, streams) {
  for (const s of streams) {
    await api(nc, `STREAM.CREATE.${s.config.name}`, s.config);
    let next = 1;
    for (const m of s.messages) {
      for (; next < m.seq; next++) { // what was gone: something stands there for a moment
        await nc.request(m.subject, new Uint8Array(1), { timeout: 10000 });
        await api(nc, `STREAM.MSG.DELETE.${s.config.name}`, { seq: next });
      }
      next++;
      const h = natsHeaders();
      for (const line of Buffer.from(m.headers ?? '', 'base64').toString().split('\r\n').slice(1)) {
        const at = line.indexOf(':');
        if (at > 0) h.append(line.slice(0, at), line.slice(at + 1).trim());
      }
      const ack = JSON.parse((await nc.request(m.subject, Buffer.from(m.data ?? '', 'base64'), { headers: h, timeout: 10000 })).string());
      if (ack.error || ack.duplicate || ack.seq !== m.seq) throw new Error(`${m.subject}: ${JSON.stringify(ack)}`);
    }
    for (const c of s.consumers) await loadConsumer(nc, s, c);
  }
}

// As it was made, and brought to where it stood by taking what had been acknowledged.
async function loadConsumer(nc, stream, { config, floor }) {
  let left = stream.messages.filter((m) => m.seq <= floor).length;
  const sub = nc.subscribe(config.deliver_subject, { queue: config.deliver_group, callback: (_e, m) => { if (left > 0) { left--; m.respond('+ACK'); } } });
  await nc.flush();
  await api(nc, `CONSUMER.DURABLE.CREATE.${stream.config.name}.${config.durable_name}`, { stream_name: stream.config.name, config });
  await until(`${config.durable_name} to stand where it stood`, () => left === 0);
  await nc.flush();
  sub.unsubscribe();
}

export async function loadRedis(redis, keys) {
  for (const k of keys)
    await redis.sendCommand(['RESTORE', k.key, String(Math.max(0, k.ttl_ms)), Buffer.from(k.dump, 'base64')]);
}

export function loadFiles(dir, files) {
  for (const f of files) {
    const to = path.join(dir, f.path);
    fs.mkdirSync(path.dirname(to), { recursive: true, mode: 0o700 });
    fs.writeFileSync(to, Buffer.from(f.data, 'base64'), { mode: 0o600 });
  }
}
