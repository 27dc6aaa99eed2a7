// linear.test.mjs - breakers under kill and pause: what clients saw is one order of changes that fits real time. See lib/linear.mjs.
//
// Three replicas, twelve clients, three targets; meanwhile replicas are killed and stopped (beyond the tilt), and Redis is stopped and restarted.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { commandOptions } from 'redis';
import { ceHeaders, decode, encode } from './lib/contract.mjs';
import { History, now } from './lib/history.mjs';
import { check, prepare } from './lib/linear.mjs';
import { last } from './lib/small.mjs';
import { withStack } from './lib/stack.mjs';
import { pause, slow, until } from './lib/wait.mjs';

/* ---- the checker itself ---- */

const FORCED_OPEN = 'BREAKER_STATE_FORCED_OPEN', CLOSED = 'BREAKER_STATE_CLOSED', OPEN = 'BREAKER_STATE_OPEN', HALF = 'BREAKER_STATE_HALF_OPEN';
const none = { id: 0, holder: '', expires_unix_ms: 0 };
// A document; `at` is also its time.
const doc = (epoch, state, previous, more = {}) => ({ target: 't', epoch, state, previous, reason: 'BREAKER_REASON_ELAPSED', forced_by: '', changed_unix_ms: epoch, until_unix_ms: 0, permit: none, ...more });
const forced = (epoch, previous, by, more = {}) => doc(epoch, FORCED_OPEN, previous, { reason: 'BREAKER_REASON_OPERATOR', forced_by: by, ...more });
const reset = (epoch, previous) => doc(epoch, CLOSED, previous, { reason: 'BREAKER_REASON_OPERATOR' });
const granted = (epoch, previous, id, holder, expires, more = {}) => doc(epoch, HALF, previous, { permit: { id, holder, expires_unix_ms: expires }, ...more });
const sight = (d, at) => ({ target: 't', epoch: d.epoch, doc: d, at });
const op = (verb, by, call, ret, epoch, more = {}) => ({ client: 'c', target: 't', verb, by, call, ret, epoch, status: 'COMMAND_STATUS_OK', source: 'r1', ...more });
const judge = (seen, ops) => check(prepare({ seen, ops }));

describe('the checker accepts', () => {
  const c1 = doc(1, CLOSED, 'BREAKER_STATE_UNSPECIFIED'), f2 = forced(2, CLOSED, 'a'), r3 = reset(3, FORCED_OPEN);
  const right = {
    'orders one after another': [[sight(c1, 1), sight(f2, 15), sight(r3, 25)], [op('open', 'a', 10, 20, 2), op('reset', 'b', 21, 30, 3)]],
    'orders at the same time, in either order': [[sight(c1, 1), sight(f2, 15), sight(r3, 25)], [op('reset', 'b', 5, 30, 3), op('open', 'a', 10, 20, 2)]],
    'announcements out of order': [[sight(r3, 25), sight(f2, 26), sight(c1, 27)], [op('open', 'a', 10, 30, 2), op('reset', 'b', 11, 30, 3)]],
    'an order without an answer that was carried out': [[sight(c1, 1), sight(f2, 100)], [op('open', 'a', 10, Infinity, undefined, { status: 'UNKNOWN' })]],
    'an order without an answer that was not': [[sight(c1, 1)], [op('open', 'a', 10, Infinity, undefined, { status: 'UNKNOWN' })]],
    'an old answer of another replica': [[sight(c1, 1), sight(f2, 15)], [op('open', 'a', 10, 20, 2), op('show', '', 21, 22, 2, { doc: f2, state: FORCED_OPEN }), op('show', '', 23, 24, 1, { source: 'r2', doc: c1, state: CLOSED })]],
    'what was so already': [[sight(c1, 1), sight(f2, 15)], [op('open', 'a', 10, 20, 2), op('open', 'b', 12, 22, 2, { status: 'COMMAND_STATUS_ALREADY' })]],
    'a permit after the last one is over': [[sight(granted(1, HALF, 1, 'a', 5), 1), sight(granted(2, HALF, 2, 'b', 50, { changed_unix_ms: 6 }), 9)], [op('allow', 'a', 0, 2, 1, { permit: 1 }), op('allow', 'b', 3, 10, 2, { permit: 2 })]],
    'an epoch that nobody announced': [[sight(c1, 1), sight(r3, 25)], [op('open', 'a', 10, 20, 2), op('reset', 'b', 21, 30, 3)]],
  };
  for (const [name, [seen, ops]] of Object.entries(right)) test(name, () => assert.deepEqual(judge(seen, ops), []));
});

describe('the checker rejects', () => {
  const c1 = doc(1, CLOSED, 'BREAKER_STATE_UNSPECIFIED'), f2 = forced(2, CLOSED, 'a'), r3 = reset(3, FORCED_OPEN);
  const wrong = {
    'two documents under one epoch': [/two documents/, [sight(f2, 1), sight(forced(2, CLOSED, 'b'), 2)], [op('open', 'a', 0, 9, 2), op('open', 'b', 0, 9, 2)]],
    'the later order under the smaller epoch': [/known before it asked/, [sight(f2, 40), sight(r3, 15)], [op('reset', 'b', 5, 20, 3), op('open', 'a', 21, 41, 2)]],
    'an order known before it was given': [/known before it asked/, [sight(c1, 1), sight(f2, 5)], [op('open', 'a', 10, 20, 2)]],
    'an order carried out twice': [/carried out twice/, [sight(c1, 1), sight(f2, 15), sight(r3, 16), sight(forced(4, CLOSED, 'a'), 17)], [op('open', 'a', 10, 20, 4), op('reset', 'b', 10, 30, 3)]],
    'an order answered OK that is nowhere': [/no epoch is its/, [sight(c1, 1)], [op('open', 'a', 10, 20, 1)]],
    'a reset answered OK that is nowhere': [/no epoch is its/, [sight(c1, 1), sight(f2, 2)], [op('open', 'a', 1, 3, 2), op('reset', 'b', 10, 20, 2)]],
    'one epoch for two resets': [/no epoch is its/, [sight(c1, 1), sight(f2, 15), sight(r3, 25)], [op('open', 'a', 10, 20, 2), op('reset', 'b', 21, 30, 3), op('reset', 'c', 21, 30, 3)]],
    'a reset that nobody asked for': [/nobody has asked/, [sight(c1, 1), sight(f2, 15), sight(r3, 25)], [op('open', 'a', 10, 20, 2)]],
    'a refused order that was carried out': [/but made epoch/, [sight(c1, 1), sight(f2, 15)], [op('open', 'a', 10, 20, 1, { status: 'COMMAND_STATUS_INVALID' })]],
    'an answer with an epoch from before the order': [/but made 2/, [sight(c1, 1), sight(f2, 15)], [op('open', 'a', 10, 20, 1)]],
    'a step from a state that was not': [/comes from/, [sight(c1, 1), sight(doc(2, HALF, OPEN), 2)], []],
    'a deadline that moves earlier': [/earlier/, [sight(doc(1, OPEN, CLOSED, { until_unix_ms: 90 }), 1), sight(doc(2, OPEN, OPEN, { until_unix_ms: 80 }), 2)], []],
    'time that goes back': [/made before/, [sight(doc(1, CLOSED, HALF, { changed_unix_ms: 9 }), 1), sight(doc(2, OPEN, CLOSED, { changed_unix_ms: 8 }), 2)], []],
    'two permits at once': [/while permit 1 is/, [sight(granted(1, HALF, 1, 'a', 50), 1), sight(granted(2, HALF, 2, 'b', 60), 9)], []],
    'one permit for two': [/was given to a and to b/, [sight(granted(1, HALF, 1, 'a', 50), 1)], [op('allow', 'a', 0, 2, 1, { permit: 1 }), op('allow', 'b', 0, 2, 1, { permit: 1 })]],
    'ids of permits that go back': [/permit 1 after 2/, [sight(granted(1, HALF, 2, 'a', 0), 1), sight(granted(2, HALF, 1, 'b', 60), 9)], []],
    'a permit that no document knows': [/no epoch says so/, [sight(c1, 1)], [op('allow', 'a', 10, 20, 1, { permit: 7 })]],
    'a replica that goes back': [/after it had answered/, [sight(c1, 1), sight(f2, 15)], [op('open', 'a', 10, 20, 2), op('show', '', 21, 22, 2, { doc: f2, state: FORCED_OPEN }), op('show', '', 23, 24, 1, { doc: c1, state: CLOSED })]],
    'an answer that is no document': [/it is/, [sight(c1, 1)], [op('allow', 'x', 2, 3, 1, { state: OPEN })]],
    'ALREADY, but it never was': [/never so/, [sight(c1, 1)], [op('open', 'a', 10, 20, 1, { status: 'COMMAND_STATUS_ALREADY' })]],
    'ALREADY, but it was so only before': [/never so/, [sight(c1, 1), sight(f2, 4), sight(r3, 5)], [op('open', 'a', 2, 6, 2), op('reset', 'r', 3, 6, 3), op('open', 'b', 10, 20, 3, { status: 'COMMAND_STATUS_ALREADY' })]],
    'ALREADY by a document that is over': [/was known before it asked/, [sight(c1, 1), sight(f2, 4), sight(r3, 5)], [op('open', 'a', 2, 6, 2), op('reset', 'r', 3, 6, 3), op('open', 'b', 10, 20, 2, { status: 'COMMAND_STATUS_ALREADY' })]],
  };
  for (const [name, [pattern, seen, ops]] of Object.entries(wrong)) test(name, () => assert.match(judge(seen, ops).join('\n'), pattern));
});

/* ---- real processes ---- */

const REPLICAS = ['breaker-a', 'breaker-b', 'breaker-c'];
const TARGETS = ['t.one', 't.two', 't.three'];
const CLIENTS = 12;
const STORM_MS = 22000;
const settings = `targets:
${TARGETS.map((t) => `  - name: ${t}
    kind: llm
    breaker: { window: 2s, min_calls: 6, consecutive: 3, open: 100ms, open_max: 300ms, jitter: 0%, permit: 400ms, ramp_step: 80ms, min_reporters: 1 }
`).join('')}`;

// The same seed asks and disturbs in the same order; the processes' own timing is theirs.
function random(seed) {
  let x = BigInt(seed);
  return (n) => {
    x = (x * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    return Number((x >> 33n) % BigInt(n));
  };
}

function report(nc, target, reporter, good, permit = 0) {
  nc.publish(`redoubt.v1.report.${target}`, encode('OutcomeReport', {
    target, reporter, outcome: good ? 'OUTCOME_SUCCESS' : 'OUTCOME_ERROR', data_path: true, permit_id: permit, total_ms: 5, ended_unix_ms: Date.now(),
  }));
}

async function client(nc, h, n, rnd, going) {
  const name = `client-${n}`;
  for (let i = 0; going(); i++) {
    const target = TARGETS[rnd(TARGETS.length)];
    const by = `${name}-${i}`;
    const what = rnd(100);
    if (what < 45) {
      const o = await h.allow(nc, name, target, by);
      if (o.permit > 0 && rnd(100) < 85) report(nc, target, name, rnd(100) < 70, o.permit);
    } else if (what < 53) {
      await h.show(nc, name, target);
    } else if (what < 92) {
      const good = rnd(100) < 35;
      for (let k = 0; k < 4; k++) report(nc, target, name, good);
    } else {
      const verb = ['open', 'close', 'reset', 'reset', 'reset', 'metrics'][rnd(6)];
      await h.order(nc, name, target, verb, by, 50 + rnd(400));
    }
    await pause(5 + rnd(30));
  }
}

async function disturb(stack, rnd, going) {
  const done = { kill: 0, stop: 0, 'stop redis': 0, 'restart redis': 0 };
  while (going()) {
    const victim = REPLICAS[rnd(REPLICAS.length)];
    const what = ['kill', 'kill', 'stop', 'stop', 'stop redis', 'restart redis'][rnd(6)];
    done[what]++;
    if (what === 'kill') {
      await stack.kill(victim);
      await pause(rnd(400));
      stack.run(victim);
    } else if (what === 'stop') {
      process.kill(stack.pid(victim), 'SIGSTOP');
      await pause(rnd(3) === 0 ? 2200 + rnd(800) : rnd(900)); // now and then long enough to be noticed as a tilt
      process.kill(stack.pid(victim), 'SIGCONT');
    } else if (what === 'stop redis') {
      process.kill(stack.pid('redis'), 'SIGSTOP');
      await pause(rnd(1200));
      process.kill(stack.pid('redis'), 'SIGCONT');
    } else {
      await stack.kill('redis');
      await pause(rnd(500));
      stack.run('redis');
    }
    await pause(rnd(800));
  }
  return done;
}

test('changes and permits are linearizable under kill and pause', { timeout: 180000 * slow }, () => withStack('linear', settings, async (stack) => {
  const seed = Number(process.env.REDOUBT_SEED ?? Date.now() % 1000000);
  const rnd = random(seed);
  for (const r of REPLICAS) {
    stack.define(r, stack.procs.get('breaker').command, stack.procs.get('breaker').args);
    stack.run(r);
  }
  const h = new History();
  const watch = await stack.nats('watch');
  h.follow(watch);
  const ncs = [];
  for (let i = 0; i < CLIENTS; i++) ncs.push(await stack.nats(`client-${i}`));
  for (const t of TARGETS) await until(`${t} to be known`, async () => (await h.show(ncs[0], 'first', t)).status === 'COMMAND_STATUS_OK');
  const end = now() + STORM_MS;
  const going = () => now() < end;
  const [done] = await Promise.all([disturb(stack, rnd, going), ...ncs.map((nc, i) => client(nc, h, i, random(seed * 100 + i), going))]);

  // All is well again: what the stream remembers, what Redis holds and what every replica says is the last change.
  const redis = await stack.redis();
  for (const t of TARGETS) {
    await until(() => `one last word about ${t}`, async () => {
      const rev = Number(await redis.hGet(`redoubt:{b:${t}}:doc`, 'rev'));
      const stream = await last(ncs[0], 'BreakerChanged', `redoubt.v1.breaker.${t}`);
      const shown = await Promise.all(REPLICAS.map(() => h.show(ncs[0], 'last', t)));
      return rev > 0 && stream?.epoch === rev && shown.every((o) => o.epoch === rev);
    }, 30000);
    const parts = await redis.hmGet(commandOptions({ returnBuffers: true }), `redoubt:{b:${t}}:doc`, ['doc', 'doc1', 'doc2', 'doc3', 'doc4', 'doc5', 'doc6', 'doc7']);
    h.take(decode('BreakerChanged', Buffer.concat(parts.filter(Boolean)))); // parts of 64 bytes, or one
  }
  // A replica that stood still announces too late: what comes last is not the last word.
  for (const t of TARGETS) {
    const newest = await last(ncs[0], 'BreakerChanged', `redoubt.v1.breaker.${t}`);
    const old = h.seen.find((x) => x.target === t && x.epoch === newest.epoch - 1)?.doc;
    if (!old) continue;
    await ncs[0].jetstream().publish(`redoubt.v1.breaker.${t}`, encode('BreakerChanged', old), { headers: ceHeaders('BreakerChanged', `late/${t}`, 'test') });
    await until(`the last word about ${t} to be the newest again`, async () => (await last(ncs[0], 'BreakerChanged', `redoubt.v1.breaker.${t}`))?.epoch >= newest.epoch, 30000);
  }
  await watch.flush();

  const wrong = check(prepare(h));
  assert.deepEqual(wrong, [], `REDOUBT_SEED=${seed}: ${JSON.stringify(done)}`);
  // It was about something.
  const count = (f) => h.ops.filter(f).length;
  const epochs = new Set(h.seen.map((x) => `${x.target}/${x.epoch}`)).size;
  const permits = count((o) => o.permit > 0), orders = count((o) => o.status === 'COMMAND_STATUS_OK' && o.verb !== 'show');
  console.log(`seed ${seed}: ${h.ops.length} requests, ${epochs} epochs, ${permits} permits, ${orders} orders, ${count((o) => o.ret === Infinity)} without an answer; ${JSON.stringify(done)}`);
  assert.ok(epochs > 50 && permits > 5 && orders > 20, `${epochs} epochs, ${permits} permits, ${orders} orders`);
  for (const [what, n] of Object.entries({ disturbed: Object.values(done).reduce((a, b) => a + b) })) assert.ok(n > 3, what);
}, { services: [] }));
