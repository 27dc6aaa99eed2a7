// peers-breaker.test.mjs - what users of other circuit breakers suffer from does not happen here. The table in tests/README.md says which.
//
// Two replicas on one NATS and one Redis; each test has a target of its own. Those that take Redis away come last.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { ceHeaders, decode, encode } from './lib/contract.mjs';
import { last } from './lib/small.mjs';
import { withStack } from './lib/stack.mjs';
import { pause, slow, until } from './lib/wait.mjs';

const TARGETS = ['minority', 'cheap', 'rush', 'newborn', 'silent', 'hung', 'cooling', 'stale', 'wait', 'view', 'down', 'blip', 'unreachable'];
const rule = 'window: 6s, min_calls: 10, consecutive: 5, open: 1s, open_max: 2s, jitter: 0%, permit: 600ms, ramp_step: 100ms';
const settings = `targets:
${TARGETS.map((t) => `  - { name: p.${t}, kind: llm, breaker: { ${rule} } }\n`).join('')}${['one', 'two', 'three'].map((t) => `  - { name: m.${t}, kind: llm, scopes: [account], breaker: { ${rule} } }\n`).join('')}  - { name: p.long, kind: llm, breaker: { ${rule.replace('open: 1s', 'open: 60s').replace('open_max: 2s', 'open_max: 60s')} } }
  - { name: p.slow, kind: llm, breaker: { ${rule}, slow: 2s } }
`;
const REPLICAS = ['breaker', 'breaker-2'];
const CLOSED = 'BREAKER_STATE_CLOSED', OPEN = 'BREAKER_STATE_OPEN', HALF_OPEN = 'BREAKER_STATE_HALF_OPEN', PROBATION = 'BREAKER_STATE_PROBATION';
const BUCKET_MS = 600; // of a window of 6 s: so long after a change nobody is taken for all that there are

// The breaker as a client sees it.
class View {
  constructor(nc) {
    this.nc = nc;
    this.docs = new Map(); // target -> every change as it came, newest epoch last
    nc.subscribe('redoubt.v1.breaker.>', { callback: (e, m) => { if (!e) this.take(decode('BreakerChanged', m.data)); } });
    this.alerts = [];
    nc.subscribe('redoubt.v1.alert', { callback: (e, m) => { if (!e) this.alerts.push(decode('Alert', m.data)); } });
  }

  take(doc) {
    const list = this.docs.get(doc.target) ?? [];
    if (!list.some((d) => d.epoch === doc.epoch)) list.push(doc);
    this.docs.set(doc.target, list.sort((a, b) => a.epoch - b.epoch));
  }

  now(target) {
    return this.docs.get(target)?.at(-1);
  }

  opened(target) {
    return (this.docs.get(target) ?? []).filter((d) => d.state === OPEN);
  }

  state(target, ...states) {
    return until(() => `${target} to be ${states.join(' or ')}; it is ${this.now(target)?.state}`, () => states.includes(this.now(target)?.state) && this.now(target));
  }

  // Closed, and for so long that the first reports count.
  ready(target) {
    return until(() => `${target} to be ready`, () => this.now(target)?.state === CLOSED && Date.now() > this.now(target).changed_unix_ms + BUCKET_MS + 100);
  }

  report(target, reporter, outcome, more = {}) {
    this.nc.publish(`redoubt.v1.report.${target}`, encode('OutcomeReport', { target, reporter, outcome, data_path: true, total_ms: 5, ended_unix_ms: Date.now(), ...more }));
  }

  async ask(verb, type, message, answer, timeout = 5000) {
    return decode(answer, (await this.nc.request(`redoubt.v1.cmd.breaker.${verb}`, encode(type, message), { timeout })).data);
  }

  allow(target, holder = 'agent') {
    return this.ask('allow', 'AllowRequest', { target, holder }, 'AllowReply');
  }

  async open(target) {
    await this.ready(target);
    for (let i = 0; i < 6; i++) this.report(target, 'agent', 'OUTCOME_ERROR');
    return this.state(target, OPEN);
  }

  // The way back, as agents go it.
  async mend(target) {
    await until(() => `${target} to find its way back; it is ${this.now(target).state}`, async () => {
      const s = this.now(target).state;
      if (s === HALF_OPEN) {
        const a = await this.allow(target);
        if (a.permit_id) this.report(target, 'agent', 'OUTCOME_SUCCESS', { permit_id: a.permit_id });
      }
      if (s === PROBATION) this.report(target, 'agent', 'OUTCOME_SUCCESS');
      return s === CLOSED;
    }, 30000);
  }
}

const cpu_ms = (pid) => {
  const f = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(f[11]) + Number(f[12])) * 10; // user and system, in ticks of 10 ms
};

test('what users of other breakers suffer from', { timeout: 240000 * slow }, (t) => withStack('peers', settings, async (stack) => {
  stack.define(REPLICAS[1], stack.procs.get('breaker').command, stack.procs.get('breaker').args);
  for (const r of REPLICAS) stack.run(r);
  const nc = await stack.nats();
  const v = new View(nc);
  const redis = await stack.redis();
  const commands = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
  for (const name of [...TARGETS.map((x) => `p.${x}`), 'm.one', 'm.two', 'm.three', 'p.long', 'p.slow'])
    await until(`${name} to be known`, async () => {
      const r = await v.ask('show', 'BreakerCommand', { target: name }, 'CommandReply', 1000).catch(() => null);
      if (r?.payload.length) v.take(decode('BreakerChanged', r.payload));
      return v.now(name);
    });
  const both = () => until('both replicas to answer', async () => {
    const seen = new Set();
    for (let i = 0; i < 20; i++) seen.add((await nc.request('redoubt.v1.cmd.breaker.show', encode('BreakerCommand', { target: 'p.view' }), { timeout: 1000 }).catch(() => null))?.headers?.get('ce-source'));
    seen.delete(undefined);
    return seen.size === 2;
  }, 40000);
  await both();

  await t.test('one node that cannot reach a target cuts nobody else off', async () => {
    await v.ready('p.minority');
    for (let i = 0; i < 60; i++) {
      for (const who of ['well-1', 'well-2']) v.report('p.minority', who, 'OUTCOME_SUCCESS');
      v.report('p.minority', 'blind', 'OUTCOME_UNREACHABLE');
      await pause(20);
    }
    await nc.flush();
    await pause(500);
    assert.equal(v.opened('p.minority').length, 0);
    // Once the others see it, too, it is the target's fault.
    for (let i = 0; i < 12; i++) for (const who of ['well-1', 'well-2', 'blind']) v.report('p.minority', who, 'OUTCOME_UNREACHABLE');
    await v.state('p.minority', OPEN);
  });

  await t.test('a shared window costs no round trip per call', async () => {
    await v.ready('p.cheap');
    const before = await commands();
    const N = 2000;
    for (let i = 0; i < N; i += 100) {
      const reports = Array.from({ length: 100 }, () => ({ target: 'p.cheap', reporter: 'agent', outcome: 'OUTCOME_SUCCESS', data_path: true, total_ms: 5, ended_unix_ms: Date.now() }));
      nc.publish('redoubt.v1.report.p.cheap', encode('OutcomeBatch', { reports }), { headers: ceHeaders('OutcomeBatch', `cheap-${i}`, 'test') });
    }
    let admitted = 0;
    for (let i = 0; i < 300; i++) admitted += (await v.allow('p.cheap')).admitted;
    assert.equal(admitted, 300);
    const spent = (await commands()) - before;
    assert.ok(spent < (N + 300) / 5, `${spent} commands for ${N} reports and 300 questions`);
  });

  await t.test('half open, one call passes, whoever asks at the same time', async () => {
    await v.open('p.rush');
    await v.state('p.rush', HALF_OPEN);
    const answers = await Promise.all(Array.from({ length: 40 }, () => v.allow('p.rush', 'agent')));
    const ids = answers.filter((a) => a.permit_id).map((a) => a.permit_id);
    assert.ok(ids.length >= 1);
    assert.equal(new Set(ids).size, ids.length, 'no permit is given out twice');
    assert.equal(answers.filter((a) => a.admitted).length, ids.length, 'nobody passes without one');
    const grants = await until('the grants to be told', () => { const g = v.docs.get('p.rush').filter((d) => d.permit.holder); return g.length >= ids.length && g; });
    grants.slice(1).forEach((d, i) => assert.ok(d.changed_unix_ms >= grants[i].permit.expires_unix_ms, 'one after another'));
    await v.mend('p.rush');
  });

  await t.test('a new process does not close the shared circuit', async () => {
    const opened = await v.open('p.long');
    await stack.kill(REPLICAS[1]);
    stack.run(REPLICAS[1]);
    stack.define('breaker-3', stack.procs.get('breaker').command, stack.procs.get('breaker').args);
    stack.run('breaker-3');
    const sources = new Set();
    await until('three replicas to answer', async () => {
      const m = await nc.request('redoubt.v1.cmd.breaker.allow', encode('AllowRequest', { target: 'p.long', holder: 'agent' }), { timeout: 1000 }).catch(() => null);
      if (!m) return false;
      const a = decode('AllowReply', m.data);
      assert.equal(a.admitted, false);
      if (a.epoch === opened.epoch) sources.add(m.headers?.get('ce-source'));
      return sources.size === 3;
    }, 40000);
    assert.equal(v.now('p.long').epoch, opened.epoch);
    await stack.kill('breaker-3', 'SIGTERM');
  });

  await t.test('half open, a holder that never reports does not block the way', async () => {
    await v.open('p.silent');
    await v.state('p.silent', HALF_OPEN);
    const first = await until('a permit', async () => { const a = await v.allow('p.silent', 'silent'); return a.permit_id && a; });
    const next = await until('the next permit', async () => { const a = await v.allow('p.silent', 'other'); return a.permit_id && a; });
    assert.ok(next.permit_id > first.permit_id);
    assert.ok(v.docs.get('p.silent').some((d) => d.reason === 'BREAKER_REASON_PERMIT_EXPIRED'));
    await v.mend('p.silent');
  });

  await t.test('calls that hang count as slow while they hang', async () => {
    await v.ready('p.slow');
    for (let i = 0; i < 12; i++) v.report('p.slow', 'agent', 'OUTCOME_RUNNING', { total_ms: 2500 });
    const d = await v.state('p.slow', OPEN);
    assert.equal(d.reason, 'BREAKER_REASON_SLOW_RATIO');
  });

  await t.test('a cooldown only grows while it lasts', async () => {
    await v.ready('p.cooling');
    v.report('p.cooling', 'agent', 'OUTCOME_RATE_LIMITED', { retry_after_ms: 4000 });
    const first = await v.state('p.cooling', OPEN);
    assert.equal(first.reason, 'BREAKER_REASON_RETRY_AFTER');
    v.report('p.cooling', 'agent', 'OUTCOME_RATE_LIMITED', { retry_after_ms: 9000 });
    const later = await until('a later deadline', () => v.now('p.cooling').until_unix_ms >= first.until_unix_ms + 3000 && v.now('p.cooling'));
    v.report('p.cooling', 'agent', 'OUTCOME_RATE_LIMITED', { retry_after_ms: 1000 });
    await nc.flush();
    await pause(500);
    assert.equal(v.now('p.cooling').until_unix_ms, later.until_unix_ms);
    for (const [a, b] of v.opened('p.cooling').map((d, i, all) => [all[i - 1], d]).slice(1)) assert.ok(b.until_unix_ms >= a.until_unix_ms);
  });

  await t.test('a cooldown that ended while everything was down is over', async () => {
    const d = await v.open('p.stale');
    for (const r of REPLICAS) await stack.kill(r);
    await until('its time to be over', () => Date.now() > d.until_unix_ms);
    for (const r of REPLICAS) stack.run(r);
    await v.state('p.stale', HALF_OPEN, PROBATION);
    await v.mend('p.stale');
    await both();
  });

  await t.test('one bad model does not cool the whole account', async () => {
    for (const m of ['m.two', 'm.three']) for (let i = 0; i < 20; i++) v.report(m, 'agent', 'OUTCOME_SUCCESS');
    await v.open('m.one');
    for (let i = 0; i < 20; i++) {
      for (const m of ['m.two', 'm.three']) v.report(m, 'agent', 'OUTCOME_SUCCESS');
      await pause(50);
    }
    for (const m of ['m.two', 'm.three']) {
      assert.equal(v.opened(m).length, 0, m);
      assert.equal((await v.allow(m)).admitted, true, m);
    }
  });

  await t.test('a refusal says when to ask again', async () => {
    const d = await v.open('p.wait');
    const a = await v.allow('p.wait');
    if (a.state === OPEN) {
      assert.equal(a.admitted, false);
      assert.ok(a.retry_after_ms > 0 && a.retry_after_ms <= d.until_unix_ms - d.changed_unix_ms, `${a.retry_after_ms} ms`);
    }
    const long = await v.allow('p.long');
    assert.equal(long.admitted, false);
    assert.ok(long.retry_after_ms > 1000 && long.retry_after_ms <= 60000, `${long.retry_after_ms} ms`);
  });

  await t.test('the state can be seen: by request, by command, on the stream and in Redis', async () => {
    const epoch = v.now('p.long').epoch;
    const reply = await v.ask('show', 'BreakerCommand', { target: 'p.long' }, 'CommandReply');
    const shown = decode('BreakerChanged', reply.payload);
    assert.deepEqual([shown.state, shown.epoch], [OPEN, epoch]);
    assert.match(shown.detail, /failure/, 'it says why');
    const cli = await stack.cli(['breaker', 'show', 'p.long']);
    assert.equal(cli.code, 0, cli.err);
    assert.match(cli.out, /OPEN/);
    assert.equal((await last(nc, 'BreakerChanged', 'redoubt.v1.breaker.p.long')).epoch, epoch);
    assert.equal(Number(await redis.hGet('redoubt:{b:p.long}:doc', 'rev')), epoch);
  });

  await t.test('without Redis the protection stays, and people are told', async () => {
    const before = v.now('p.long');
    await stack.kill('redis');
    await until('one alert of the shared state', () => v.alerts.some((a) => a.dedup_key === 'store/breaker' && !a.resolved && a.severity === 'SEVERITY_HIGH'));
    for (let i = 0; i < 20; i++) {
      assert.equal((await v.allow('p.long')).admitted, false, 'what was open stays so');
      assert.equal((await v.allow('p.down')).admitted, true, 'what was closed as well');
    }
    assert.equal(v.now('p.long').epoch, before.epoch);
    stack.run('redis');
    await until('the alert to be resolved', () => v.alerts.some((a) => a.dedup_key === 'store/breaker' && a.resolved));
    await v.open('p.down');
  });

  await t.test('short absences of Redis do not make it spin', async () => {
    await v.ready('p.blip');
    const pids = REPLICAS.map((r) => stack.pid(r));
    const start = performance.now(), spent = pids.map(cpu_ms);
    for (let i = 0; i < 3; i++) {
      process.kill(stack.pid('redis'), 'SIGSTOP');
      await pause(400);
      process.kill(stack.pid('redis'), 'SIGCONT');
      await pause(300);
      await stack.kill('redis');
      await pause(300);
      stack.run('redis');
      await pause(300);
    }
    const took_ms = performance.now() - start;
    pids.forEach((pid, i) => assert.ok(cpu_ms(pid) - spent[i] < took_ms / 2, `${cpu_ms(pid) - spent[i]} ms of CPU in ${took_ms} ms`));
    await v.open('p.blip');
  });

  await t.test('a Redis that does not answer hangs no request, and is not hidden', async () => {
    await v.ready('p.unreachable');
    const alerts = v.alerts.filter((a) => a.dedup_key === 'store/breaker' && !a.resolved).length;
    process.kill(stack.pid('redis'), 'SIGSTOP');
    try {
      const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => v.allow(i % 2 ? 'p.unreachable' : 'p.long')));
      assert.ok(answers.every((a, i) => a.admitted === (i % 2 === 1)), 'all are answered, each by the last state');
      for (let i = 0; i < 6; i++) v.report('p.unreachable', 'agent', 'OUTCOME_ERROR');
      await until('it to be said', () => v.alerts.filter((a) => a.dedup_key === 'store/breaker' && !a.resolved).length > alerts, 30000);
      const r = await v.ask('open', 'BreakerCommand', { target: 'p.unreachable', by: 'eve', reason: 'test' }, 'CommandReply', 20000);
      assert.equal(r.status, 'COMMAND_STATUS_UNAVAILABLE', 'an order is refused, not lost');
    } finally {
      process.kill(stack.pid('redis'), 'SIGCONT');
    }
    await v.state('p.unreachable', OPEN); // what was reported meanwhile counts
  });
}, { services: [] }));
