// consumer.mjs - a complete consumer: the present of a stream, then every change, without gap or double. One line of JSON for each.
//
//   NATS_URL=nats://127.0.0.1:4222 NATS_USER=siem NATS_PASSWORD_FILE=/run/secrets/redoubt/nats node consumer.mjs
//
//   STREAM   REDOUBT_STATE (default): how everything stands. REDOUBT_EVENTS, REDOUBT_ALERTS, REDOUBT_AUDIT: what has happened
//   FILTER   redoubt.v1.> (default), or a part of it: redoubt.v1.breaker.>
//   PROTO    folder with redoubt/v1/*.proto (default: ../../../proto, or ./proto in a container)
//
// How it works: every message of a stream has a sequence. What is next after the last one is asked for until there is nothing more: that is the
// present. From then on a live message is only a bell: it says that there is something to ask for. So nothing is missed while the connection is
// away, nothing comes twice, and no state is kept on the server. On REDOUBT_STATE each subject has its last message only: that one says everything.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect, Events } from 'nats';
import protobuf from 'protobufjs';

const env = process.env;
const here = path.dirname(fileURLToPath(import.meta.url));
const stream = env.STREAM || 'REDOUBT_STATE';
const filter = env.FILTER || 'redoubt.v1.>';
// What rings, by stream (proto/README.md): the third token of its subjects.
const KINDS = {
  REDOUBT_STATE: ['health', 'breaker', 'directive', 'rollback', 'version', 'share', 'problem', 'silence', 'pulse', 'checkpoint', 'continuity'],
  REDOUBT_EVENTS: ['ack', 'delivery', 'incident', 'monitor'],
  REDOUBT_ALERTS: ['alert'],
  REDOUBT_AUDIT: ['audit'],
  REDOUBT_DEAD: ['dead'],
}[stream];
const LOOK_AGAIN_MS = [20, 100, 500, 5000]; // a bell may ring a moment before the stream has the message; the last: in case one was not heard
const ANSWER_MS = 5000;
const IN_VAIN = 4; // bells after which nothing was found: is it still the same stream?

if (!KINDS) fail(`there is no stream ${stream}`);

function fail(text) {
  console.error(`consumer: ${text}`);
  process.exit(1);
}
const note = (text) => console.error(`consumer: ${text}`);

// ---- the contract ----

const folder = env.PROTO || [path.join(here, 'proto'), path.join(here, '../../../proto')].find((d) => fs.existsSync(path.join(d, 'redoubt/v1')));
if (!folder) fail('the .proto files are not there: name their folder in PROTO');
const root = new protobuf.Root();
root.resolvePath = (_from, file) => path.join(folder, file);
for (const file of fs.readdirSync(path.join(folder, 'redoubt/v1'))) root.loadSync(`redoubt/v1/${file}`, { keepCase: true });

// The header ce-type names the message. A field that this version of the files does not know is skipped; a type that it does not know is told as such.
function decode(type, data) {
  try {
    const t = root.lookupType(type);
    return t.toObject(t.decode(data), { enums: String, longs: Number, defaults: false });
  } catch (e) {
    return { undecoded: data.length, why: e.message }; // of a newer contract than these files
  }
}

// ---- reading on ----

let next = 1; // sequence
let stopped = false;
let ring = () => {};
let last = null; // {seq, id} of the last line
const seen = new Map(); // the same by subject, for REDOUBT_STATE

// One message, or null if there is none. Throws when nobody can say.
async function get(nc, subject, query) {
  const m = await nc.request(subject, query, { timeout: ANSWER_MS });
  const code = m.headers?.code;
  if (code === 404) return null;
  if (code >= 300) throw new Error(`${code} ${m.headers.description}`);
  return { seq: Number(m.headers.get('Nats-Sequence')), subject: m.headers.get('Nats-Subject'), time: m.headers.get('Nats-Time-Stamp'),
    id: m.headers.get('ce-id'), type: m.headers.get('ce-type'), data: m.data };
}

function tell(m) {
  const before = seen.get(m.subject);
  last = { seq: m.seq, id: m.id };
  if (stream === 'REDOUBT_STATE') seen.set(m.subject, last);
  if (before && m.id && before.id === m.id) return; // the stream has begun anew, and holds what was told already
  console.log(JSON.stringify({ seq: m.seq, time: m.time, subject: m.subject, id: m.id, type: m.type.replace(/^redoubt\.v1\./, ''), message: decode(m.type, m.data) }));
}

async function readOn(nc) {
  for (let n = 0; !stopped; n++) {
    const m = await get(nc, `$JS.API.DIRECT.GET.${stream}`, JSON.stringify({ seq: next, next_by_subj: filter }));
    if (!m) return n;
    tell(m);
    next = m.seq + 1;
  }
  return 0;
}

// A stream that was lost and made anew, or restored from an older copy, counts from an earlier number: what we wait for would never come.
// It is another one if it holds something before `next` that we do not know, or not what we know.
async function beganAnew(nc) {
  const first = await get(nc, `$JS.API.DIRECT.GET.${stream}`, JSON.stringify({ seq: 1, next_by_subj: filter }));
  if (!first || first.seq >= next) return false;
  if (stream === 'REDOUBT_STATE') return seen.get(first.subject)?.seq !== first.seq;
  return (await get(nc, `$JS.API.DIRECT.GET.${stream}`, JSON.stringify({ seq: last.seq })))?.id !== last.id;
}

async function follow(nc) {
  let present = false, looks = 0, rang = false, vain = 0;
  const bell = () => new Promise((done) => {
    const timer = setTimeout(done, LOOK_AGAIN_MS[looks], false);
    ring = () => { clearTimeout(timer); done(true); };
  });
  while (!stopped) {
    const wait = bell(); // before reading: a bell meanwhile counts
    try {
      if (await readOn(nc)) {
        vain = 0;
        rang = false;
      } else if (rang && ++vain >= IN_VAIN) {
        if (await beganAnew(nc)) {
          note(`${stream} has begun anew: reading it from its first message`);
          next = 1;
        } else rang = false;
        vain = 0;
        if (rang) continue;
      }
      if (!present) note(`this is the present of ${stream}, up to sequence ${next - 1}; now every change`);
      present = true;
    } catch (e) {
      if (!stopped) note(`${stream} does not answer (${e.message}); asking again`);
      looks = LOOK_AGAIN_MS.length - 2;
    }
    const now = await wait;
    rang ||= now;
    looks = now ? 0 : Math.min(looks + 1, LOOK_AGAIN_MS.length - 1);
  }
}

// ---- the connection ----

const password = env.NATS_PASSWORD_FILE ? fs.readFileSync(env.NATS_PASSWORD_FILE, 'utf8').split('\n')[0] : env.NATS_PASSWORD;
const nc = await connect({
  servers: (env.NATS_URL || 'nats://127.0.0.1:4222').split(','), name: 'redoubt consumer', ...(env.NATS_USER && { user: env.NATS_USER, pass: password }),
  maxReconnectAttempts: -1, reconnectTimeWait: 500, waitOnFirstConnect: true,
}).catch((e) => fail(`cannot connect: ${e.message}`));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { stopped = true; nc.close(); });
nc.closed().then((e) => {
  if (e && !stopped) fail(`the connection has ended: ${e.message}`);
  process.exit(0);
});
(async () => {
  for await (const s of nc.status()) {
    if (s.type === Events.Disconnect) note('the connection is away; what happens meanwhile is read afterwards');
    if (s.type === Events.Reconnect) ring(); // whatever was missed
    if (s.type === Events.Error) note(`the server says: ${s.data}`);
  }
})();
const bells = filter === 'redoubt.v1.>' ? KINDS.flatMap((k) => [`redoubt.v1.${k}`, `redoubt.v1.${k}.>`]) : [filter];
for (const b of bells) nc.subscribe(b, { callback: (e, m) => { if (!e && KINDS.includes(m.subject.split('.')[2])) ring(); } });
await follow(nc);
