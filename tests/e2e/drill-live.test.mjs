// drill-live.test.mjs - drills on a running suite: there and back, and back whatever happens to the drill, its target, or anything else.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { decode, encode, top } from './lib/contract.mjs';
import { SERVICES, withStack } from './lib/stack.mjs';
import { backend, llm, slack } from './lib/world.mjs';
import { until } from './lib/wait.mjs';

const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');
const TARGET = 'target';
const OTHER = 'other';

const settings = (w, dir) => `targets:
  - { name: llm.a, kind: llm, probe: { type: llm, url: "${w.llm.url}", model: m, interval: 500ms, fast_interval: 200ms, timeout: 1s }, breaker: { consecutive: 3, open: 1s, ramp_step: 200ms } }
  - { name: backend.a, kind: backend, probe: { type: http, url: "${w.backend.url}/health", interval: 500ms, fast_interval: 200ms, timeout: 1s }, breaker: { consecutive: 3, open: 1s, ramp_step: 200ms } }
  - { name: side.a, kind: other, probe: { type: http, url: "${w.side.url}/health", interval: 500ms, fast_interval: 200ms, timeout: 1s }, breaker: { consecutive: 3, open: 1s, ramp_step: 200ms } }
agents:
${[TARGET, OTHER].map((name) => `  - name: ${name}
    chain: [ { target: llm.a, model: m } ]
    backend: backend.a
    heartbeat: 300ms
    ack: 500ms
    backend_step: 300ms
    restore_hold: 300ms
    recovery: { step: 300ms }
`).join('')}alert:
  channels:
    - { name: chat, type: slack, url: "${w.slack.url}/hook", attempt: 1s, tries: 2 }
    - { name: record, type: file, path: ${path.join(dir, 'alerts.jsonl')} }
`;

class Suite {
  constructor(stack, w) {
    Object.assign(this, { stack, w, n: 0 });
  }

  agent(name) {
    this.stack.define(name, path.join(bin, 'redoubt'), ['sim', 'agent', name, '--rate', '5', '-c', this.stack.config]);
    this.stack.run(name);
  }

  async state(agent) {
    const r = await this.nc.request('redoubt.v1.cmd.fallback.state', encode('AgentCommand', { agent }), { timeout: 3000 });
    const reply = decode('CommandReply', r.data);
    return decode('AgentState', reply.payload);
  }

  async normal(agent = TARGET) {
    let s;
    await until(() => `${agent} to be NORMAL: ${JSON.stringify(s)}`, async () => {
      s = await this.state(agent).catch(() => null);
      return s && s.posture === 'POSTURE_NORMAL' && Number(s.acked_epoch) >= Number(s.epoch);
    }, 40000);
  }

  // Everything is as a drill wants it.
  async well() {
    await until('the suite to be well', async () => (await this.stack.cli(['status'])).code === 0, 60000);
  }

  drill(name, ...args) {
    const file = path.join(this.stack.dir, `figures-${++this.n}.json`);
    const child = spawn(path.join(bin, 'redoubt'), ['drill', name, '--live', '--target', TARGET, '--by', 'e2e', '--reason', 'a drill', '--json', file, '-c', this.stack.config, ...args],
      { stdio: ['ignore', 'pipe', 'pipe'] });
    const d = { child, out: '', figures: () => JSON.parse(fs.readFileSync(file, 'utf8')) };
    for (const s of [child.stdout, child.stderr]) s.on('data', (x) => { d.out += x; });
    d.ended = new Promise((done) => child.on('close', (code, signal) => done({ code, signal })));
    return d;
  }

  async moved(d) {
    await until(() => `the agent to be moved: ${d.out}`, () => /it confirms/.test(d.out), 20000);
  }
}

async function withSuite(body) {
  const w = { llm: await llm(), backend: await backend(), side: await backend(), slack: await slack() };
  try {
    await withStack('drill-live', (stack) => settings(w, stack.dir), async (stack) => {
      const s = new Suite(stack, w);
      s.nc = await stack.nats('test');
      s.agent(TARGET);
      s.agent(OTHER);
      await s.normal(TARGET);
      await s.normal(OTHER);
      await s.well();
      await body(s);
    }, { services: SERVICES });
  } finally {
    for (const s of Object.values(w)) await s.close();
  }
}

test('there and back, and no drill where one cannot be', { timeout: 300000 }, () => withSuite(async (s) => {
  // Nobody is there to be asked.
  let d = s.drill('backend-outage');
  assert.equal((await d.ended).code, 2, d.out);
  assert.match(d.out, /--yes/);
  assert.equal((await s.state(TARGET)).drill_failure, 'FAILURE_KIND_UNSPECIFIED');

  for (const [name, posture] of [['backend-outage', 'POSTURE_DEGRADED'], ['partition', 'POSTURE_DEGRADED']]) {
    await s.well();
    d = s.drill(name, '--yes', '--for', '3s');
    await s.moved(d);
    const at = await s.state(TARGET);
    assert.equal(at.posture, posture);
    assert.equal(at.drill_by, 'e2e');
    const { code } = await d.ended;
    assert.equal(code, 0, d.out);
    const j = d.figures();
    assert.equal(j.live, true);
    for (const k of ['detection_ms', 'fallback_ms', 'ack_ms', 'first_alert_ms', 'failback_ms']) assert.ok(j.measures[k] >= 0, `${name} ${k}`);
    assert.equal(j.measures.actions_lost, null, 'the backend is not ours to look into');
    await s.normal();
  }

  // Not while something is not well, ...
  const order = (verb, agent) => s.stack.cli([verb, agent, '--by', 'e2e', '--reason', 'test']);
  assert.equal((await order('freeze', OTHER)).code, 0);
  d = s.drill('backend-outage', '--yes');
  assert.equal((await d.ended).code, 4, d.out);
  assert.match(d.out, /other/);
  assert.equal((await s.stack.cli(['unfreeze', OTHER, '--by', 'e2e', '--reason', 'test', '--without-selftest'])).code, 0);
  await s.normal(OTHER);
  // ... nor while an incident is open.
  const incident = (phase) => s.nc.jetstream().publish('redoubt.v1.incident.i1', encode('IncidentChanged', {
    id: 'i1', epoch: phase, phase, failure_kind: 1, severity: 3, agents: [OTHER], summary: 'all is on fire', evidence_unix_ms: Date.now(), changed_unix_ms: Date.now() }));
  await incident(1);
  await s.well();
  d = s.drill('backend-outage', '--yes');
  assert.equal((await d.ended).code, 4, d.out);
  assert.match(d.out, /all is on fire/);
  await incident(6);
  d = s.drill('backend-outage', '--yes', '--for', '1s');
  assert.equal((await d.ended).code, 0, d.out);
}));

test('whatever happens, the agent comes back', { timeout: 300000 }, () => withSuite(async (s) => {
  // Another target turns red.
  let d = s.drill('partition', '--yes', '--for', '60s');
  await s.moved(d);
  await s.w.side.close();
  assert.equal((await d.ended).code, 1, d.out);
  assert.match(d.out, /outside of the drill: .*side\.a/);
  assert.equal(d.figures().ok, false);
  await s.normal();
  await s.w.side.open();
  await s.well();

  // A person has had enough.
  d = s.drill('backend-outage', '--yes', '--for', '60s');
  await s.moved(d);
  d.child.kill('SIGINT');
  assert.equal((await d.ended).code, 1, d.out);
  await s.normal();
  await s.well();

  // The drill is killed: nobody asks for it again, so it lapses.
  d = s.drill('backend-outage', '--yes', '--for', '60s');
  await s.moved(d);
  d.child.kill('SIGKILL');
  await d.ended;
  assert.notEqual((await s.state(TARGET)).drill_failure, 'FAILURE_KIND_UNSPECIFIED');
  await s.normal();
  await s.well();

  // Its target vanishes.
  d = s.drill('backend-outage', '--yes', '--for', '60s');
  await s.moved(d);
  await s.stack.kill(TARGET);
  assert.equal((await d.ended).code, 1, d.out);
  assert.match(d.out, /outside of the drill/);
  assert.equal((await s.state(TARGET)).drill_failure, 'FAILURE_KIND_UNSPECIFIED');
}));
