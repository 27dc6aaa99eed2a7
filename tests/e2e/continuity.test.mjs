// continuity.test.mjs - an outage of a provider as an operator lives with it: one incident for all agents, its clocks, phases and report; a leader that is killed on the way.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Agent, readStream } from './lib/agent.mjs';
import { ceHeaders, decode, encode } from './lib/contract.mjs';
import { metric } from './lib/micro.mjs';
import { nonsense } from './lib/nonsense.mjs';
import { SERVICES, withStack } from './lib/stack.mjs';
import { slow, until } from './lib/wait.mjs';
import { backend, llm, slack } from './lib/world.mjs';

const PRIMARY = 'llm.sim.primary';
const BACKUP = 'llm.sim.backup';
const AGENTS = ['mcp-1', 'mcp-2', 'mcp-3'];
const SETTLE_MS = 1000;

const settings = (w, dir) => `targets:
${[[PRIMARY, w.primary.url, 'gpt-4o'], [BACKUP, w.backup.url, 'gpt-3.5-turbo']].map(([name, url, model]) => `  - name: ${name}
    kind: llm
    probe: { type: llm, url: "${url}", model: ${model}, interval: 500ms, fast_interval: 200ms, timeout: 1s, fall: 3, rise: 2 }
    breaker: { window: 10s, min_calls: 10, failure_ratio: 50%, consecutive: 4, open: 1s, open_max: 2s, permit: 2s, ramp_step: 300ms }
`).join('')}agents:
${AGENTS.map((a) => `  - name: ${a}
    chain: [{ target: ${PRIMARY}, model: gpt-4o }, { target: ${BACKUP}, model: gpt-3.5-turbo }]
    heartbeat: 500ms
    heartbeat_fall: ${Math.max(6, 6 * slow)}
    ack: 500ms
    ack_alert: ${3 * slow}s
    restore_hold: 500ms
    recovery: { step: 500ms }
`).join('')}alert:
  channels:
    - { name: chat, type: slack, url: "${w.slack.url}/hook", attempt: 1s, tries: 2, rate: 0 }
    - { name: record, type: file, path: ${path.join(dir, 'alerts.jsonl')} }
  routes:
    - { min_severity: info, channels: [record, chat] }
continuity:
  phases: { settle: ${SETTLE_MS}ms, validate: ${2 * slow}s, join_within: 10s, closes_itself: none }
  lease_ttl: 500ms
`;

async function withSuite(name, body) {
  const w = { primary: await llm(), backup: await llm(), backend: await backend(), slack: await slack(), agents: [] };
  try {
    await withStack(name, (stack) => settings(w, stack.dir), async (stack) => {
      const nc = await stack.nats();
      w.agents = AGENTS.map((a) => new Agent(nc, a, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url }, { heartbeat_ms: 300 }));
      for (const a of w.agents) a.start();
      const run = async (...args) => {
        const r = await stack.cli(args);
        return { ...r, all: r.out + r.err };
      };
      const ok = async (...args) => {
        const r = await run(...args);
        assert.equal(r.code, 0, `${args.join(' ')}: ${r.all}`);
        return r.out;
      };
      const json = async (...args) => JSON.parse(await ok(...args, '--json'));
      try {
        await until('the first directives', () => w.agents.every((a) => a.state?.posture === 'POSTURE_NORMAL'), 30000);
        await until('a leader', async () => (await run('continuity', 'status')).code === 0, 30000);
        await body({ stack, w, nc, run, ok, json });
      } finally {
        for (const a of w.agents) await a.stop();
      }
    }, { services: [...SERVICES, 'continuity'] });
  } finally {
    for (const s of [w.primary, w.backup, w.backend, w.slack]) await s.close();
  }
}

test('an outage from first evidence to lessons', { timeout: 180000 * slow }, () => withSuite('incident', async ({ stack, w, nc, run, ok, json }) => {
  assert.match(await ok('incident', 'list'), /no incident is open/);
  const before = await json('continuity', 'status');
  assert.equal(before.openIncidents, 0);
  assert.equal(before.breached, 0);
  assert.ok(before.objectives.length >= 9, 'each objective is there');
  assert.ok(before.objectives.every((o) => o.verdict === 'UNKNOWN' || o.objective.startsWith('rpo_')), 'nothing was shown yet');

  // First evidence: the provider's primary model dies under three agents.
  const died = Date.now();
  await w.primary.close();
  const list = await until('one incident with all agents', async () => {
    const l = await json('incident', 'list');
    return l.incidents[0]?.agentsTotal === AGENTS.length && l;
  }, 40000);
  assert.equal(list.incidents.length, 1, 'one outage is one incident');
  const { id, key } = list.incidents[0];
  assert.equal(key, 'llm.sim');
  const show = () => json('incident', 'show', id);
  const clock = (m, name) => m.clocks.find((c) => c.objective === name);
  const first = await show();
  assert.deepEqual(first.agents.toSorted(), AGENTS);
  assert.equal(first.failureKind, 'LLM_OUTAGE');
  assert.ok(first.evidenceUnixMs >= died - 1000 && first.evidenceUnixMs <= Date.now(), 'since the first evidence');
  assert.equal(clock(first, 'mad_llm_fallback').limitMs, 3600000);
  assert.equal(clock(first, 'mad_llm_fallback').stoppedUnixMs, 0);
  assert.equal(clock(first, 'rto_full').limitMs, 7200000, 'learning and orchestration are lost');
  assert.equal(clock(first, 'mad_full'), undefined, 'no agent is gone');

  // People: told, and they write down what they know.
  const told = await until('the alert in chat', () => w.slack.messages.find((m) => JSON.stringify(m).includes(id)));
  assert.ok(told);
  assert.match((await run('status')).out, /CONTINUITY +1 incident open/);
  assert.equal((await run('status')).code, 1, 'an incident is not normal');
  await ok('incident', 'note', id, 'the provider says: 20 minutes', '--by', 'eve');
  await ok('incident', 'note', 'llm.sim', 'stay on the backup', '--by', 'eve', '--decision');
  await ok('incident', 'assign', id.slice(0, -1), 'eve', '--by', 'bob', '--reason', 'on call');
  const noted = await show();
  assert.deepEqual(noted.notes.map((n) => [n.by, n.kind, n.text]), [['eve', 'NOTE', 'the provider says: 20 minutes'], ['eve', 'DECISION', 'stay on the backup']]);
  assert.equal(noted.owner, 'eve');

  // What is wrong changes nothing, and says so by its exit code.
  for (const [code, ...args] of [
    [2, 'note', id, 'by nobody'], [2, 'close', id, '--by', 'eve'], [2, 'advance', id, '--to', 'nowhere', '--by', 'eve', '--reason', 'x'],
    [2, 'advance', id, '--to', 'closed', '--by', 'eve', '--reason', 'x'], [2, 'note', id, 'x', '--by', 'eve', '--lesson', '--decision'],
    [4, 'show', 'no-such-incident'], [4, 'close', 'no-such-incident', '--by', 'eve', '--reason', 'x'], [2, 'open', '--by', 'eve', '--reason', 'x'],
    [2, 'open', '--agent', 'mcp-1', '--severity', 'awful', '--by', 'eve', '--reason', 'x'],
  ]) {
    const r = await run('incident', ...args);
    assert.equal(r.code, code, `incident ${args.join(' ')}: ${r.all}`);
  }
  const overlong = await run('incident', 'note', id, 'x'.repeat(600), '--by', 'eve');
  assert.ok([2, 4].includes(overlong.code), overlong.all);

  // The phases go on by what is seen; nobody has pushed.
  await until('the scope to be known', async () => (await show()).phase === 'RECOVER', 30000);

  // The leader is killed. Its clocks are nobody's memory.
  const killed = await show();
  await stack.kill('continuity');
  const gone = await run('incident', 'list', '--json');
  assert.equal(gone.code, 0, gone.all);
  assert.match(gone.err, /does not answer/);
  assert.equal(JSON.parse(gone.out).live, false);
  assert.equal(JSON.parse(gone.out).incidents[0].id, id, 'what was announced last is shown');
  assert.match((await run('status')).out, /service continuity does not answer/);
  stack.run('continuity');
  const again = await until('it to lead again', async () => {
    const r = await run('incident', 'show', id, '--json');
    return r.code === 0 && !r.err && JSON.parse(r.out);
  }, 30000);
  for (const c of killed.clocks) {
    const now = clock(again, c.objective);
    assert.equal(now.startedUnixMs, c.startedUnixMs, `${c.objective} was reset`);
    assert.ok(now.elapsedMs >= c.elapsedMs && now.stoppedUnixMs === 0, `${c.objective} stood still or was stopped`);
  }
  assert.deepEqual(again.notes, noted.notes);
  assert.equal((await json('incident', 'list', '--all')).incidents.length, 1, 'no second incident');

  // The way back: clocks stop only when it is validated.
  await w.primary.open();
  const learn = await until('validation', async () => {
    const m = await show();
    if (m.phase !== 'LEARN') assert.ok(m.clocks.every((c) => c.stoppedUnixMs === 0), `a clock stopped in ${m.phase}`);
    return m.phase === 'LEARN' && m;
  }, 60000);
  assert.ok(learn.clocks.every((c) => c.stoppedUnixMs > 0 && !c.breached));
  assert.ok(learn.recoveredUnixMs > 0 && learn.validatedUnixMs - learn.recoveredUnixMs >= 2000 * slow - 100, 'it stayed well first');
  const order = learn.phases.map((p) => p.phase);
  for (const [i, p] of ['RESPOND', 'ASSESS', 'RECOVER', 'VALIDATE', 'LEARN'].entries())
    assert.ok(order.indexOf(p) >= i, `${p} in ${order}`);
  assert.ok(learn.phases.every((p) => !p.overdue));

  // Its report stands, in both forms, and holds what people wrote.
  const reported = await until('the report', async () => {
    const m = await show();
    return m.report && m;
  }, 30000);
  const dir = path.join(stack.dir, 'data/continuity/reports');
  for (const end of ['md', 'html']) {
    const text = fs.readFileSync(path.join(dir, `${reported.report}.${end}`), 'utf8');
    for (const part of ['the provider says: 20 minutes', 'stay on the backup', 'LLM fallback', 'mcp-2']) assert.ok(text.includes(part), `${part} in the ${end} report`);
  }
  await ok('incident', 'note', id, 'test the backup weekly', '--by', 'eve', '--lesson');
  const printed = await ok('continuity', 'report', id, '--print');
  assert.match(printed, /the provider says: 20 minutes/);

  // The end, by a person; that it was one is on record.
  await until('status to be normal', async () => (await run('status')).code === 0, 30000);
  await ok('incident', 'close', id, '--by', 'eve', '--reason', 'learned');
  assert.match(await ok('incident', 'list'), /no incident is open/);
  const closed = (await json('incident', 'list', '--all')).incidents;
  assert.deepEqual(closed.map((i) => [i.id, i.phase]), [[id, 'CLOSED']]);
  const again2 = await run('incident', 'close', id, '--by', 'eve', '--reason', 'twice');
  assert.ok([0, 4].includes(again2.code), again2.all);
  await until('it in the trail', async () => {
    const who = JSON.parse((await run('audit', 'who', 'closed', '--format', 'json')).out);
    return who.acts.some((a) => a.who === 'eve' && a.on === id && /learned/.test(a.why));
  });

  // What was shown counts.
  const after = await json('continuity', 'status');
  const mad = after.objectives.find((o) => o.objective === 'mad_llm_fallback');
  assert.equal(mad.verdict, 'MET');
  assert.ok(mad.hasDemonstrated && mad.demonstratedBy.includes(id));
  assert.equal(mad.demonstratedMs, clock(learn, 'mad_llm_fallback').elapsedMs);
  const availability = await json('continuity', 'availability');
  assert.deepEqual(availability.agents.map((a) => a.agent), AGENTS);
  for (const a of availability.agents) {
    assert.ok(a.figures.llmFallbackMs > 0 && a.figures.llmFallbackMs <= Date.now() - died, `${a.agent} was on its backup`);
    assert.equal(a.figures.fullMs, 0);
    assert.equal(a.figures.incidents, 1);
  }
  assert.match(await ok('continuity', 'availability', '--csv'), /^month,agent,.*\r\n\d{4}-\d{2},mcp-1,100\.0000,/);
  assert.equal((await run('continuity', 'availability', '2026-13')).code, 2);

  // As a consumer sees it: every epoch once, one incident, nothing went back.
  const events = (await readStream(nc, 'REDOUBT_EVENTS', 'redoubt.v1.incident.>')).map((m) => decode('IncidentChanged', m.data));
  assert.deepEqual([...new Set(events.map((e) => e.id))], [id]);
  const epochs = events.map((e) => e.epoch);
  assert.deepEqual(epochs, [...new Set(epochs)].sort((a, b) => a - b), 'epochs only grow');
  assert.equal(events.at(-1).phase, 'INCIDENT_PHASE_CLOSED');
  assert.match(await ok('tail', 'incident', '--replay', '--count', '1'), /incident +\S+ +RESPOND/);

  const ends = await stack.stop();
  for (const [service, end] of Object.entries(ends)) assert.equal(end.code, 0, `${service} drains and ends with 0: ${JSON.stringify(end)}`);
}));

test('declared by a person, and nonsense', { timeout: 120000 * slow }, () => withSuite('declared', async ({ stack, nc, run, ok, json }) => {
  const pid = stack.pid('continuity');
  const counted = await metric(nc, 'continuity', 'redoubt_bad_input_total');
  for (const verb of ['note', 'open', 'close', 'status', 'incidents', 'availability', 'report', 'backup', 'config_put'])
    for (const bytes of Object.values(nonsense(Buffer.from(encode('ContinuityCommand', { by: 'x', reason: 'x', incident: 'x', name: 'x' })))))
      nc.publish(`redoubt.v1.cmd.continuity.${verb}`, bytes, { headers: ceHeaders('ContinuityCommand', `bad-${verb}-${bytes.length}`, 'test'), reply: 'nobody.listens' });
  for (const bytes of Object.values(nonsense(Buffer.from(encode('IncidentChanged', { id: 'x', epoch: 1, phase: 1 })))))
    nc.publish('redoubt.v1.continuity.incident.x', bytes, { headers: ceHeaders('IncidentChanged', `bad-doc-${bytes.length}`, 'test') });
  await nc.flush();
  await until('bad input to be counted', async () => (await metric(nc, 'continuity', 'redoubt_bad_input_total')) > counted);
  assert.match(stack.log('continuity'), /bad input|dead/);
  assert.equal(stack.pid('continuity'), pid);
  assert.equal((await json('incident', 'list')).incidents.length, 0, 'nonsense opens nothing');

  await ok('incident', 'open', '--key', 'office', '--kind', 'network', '--severity', 'warning', '--by', 'eve', '--reason', 'the office is dark');
  const [one] = await until('it to be listed', async () => {
    const { incidents } = await json('incident', 'list');
    return incidents.length && incidents;
  });
  assert.equal(one.key, 'office');
  assert.match(one.summary, /the office is dark/);
  assert.equal(one.severity, 'WARNING');
  const shown = await ok('incident', 'show', 'office');
  assert.match(shown, /redoubt incident assign/, 'says how to go on');
  await ok('incident', 'close', 'office', '--by', 'eve', '--reason', 'a fuse');
  assert.equal((await json('incident', 'list')).incidents.length, 0);
  assert.equal((await run('incident', 'show', 'office')).code, 4, 'a key names only what is open');
  await ok('incident', 'show', one.id);
  for (const [code, ...args] of [
    [4, 'backup', 'no-such-source', '--by', 'eve', '--reason', 'x'], [4, 'test', 'no-such-source', '--by', 'eve', '--reason', 'x'],
    [4, 'drill', 'no-such-drill', '--by', 'eve', '--reason', 'x'], [2, 'backup', 'x'], [4, 'status', '--agent', 'nobody-of-that-name'],
  ]) {
    const r = await run('continuity', ...args);
    assert.equal(r.code, code, `continuity ${args.join(' ')}: ${r.all}`);
  }
  assert.equal(stack.pid('continuity'), pid);
  assert.ok(stack.running('continuity'));
}));
