// acting.mjs - a suite with agents that act through the guard, several replicas of what matters, and every knob turned to seconds.
import fs from 'node:fs';
import path from 'node:path';
import { llm } from './world.mjs';
import { Actor, CountingBackend, baselineText } from './actor.mjs';
import { withStack } from './stack.mjs';
import { until } from './wait.mjs';

export const agentName = (i) => `agent-${String(i).padStart(3, '0')}`;

function settings(w, stack, agents) {
  const probe = 'interval: 500ms, fast_interval: 100ms, timeout: 1s, fall: 2, rise: 1';
  return `targets:
  - name: llm.sim.primary
    kind: llm
    probe: { type: llm, url: "${w.llm.url}", model: m, interval: 1s, timeout: 5s, fall: 3, rise: 1 }
    breaker: { window: 5s, min_calls: 5, failure_ratio: 50%, consecutive: 3, open: 500ms, open_max: 1s, permit: 1s, ramp_step: 200ms }
  - name: backend.sim
    kind: backend
    probe: { type: http, url: "${w.backend.url}/health", ${probe} }
    breaker: { window: 5s, min_calls: 5, failure_ratio: 50%, consecutive: 3, open: 500ms, open_max: 1s, permit: 1s, ramp_step: 200ms }
agents:
${agents.map((name) => `  - name: ${name}
    chain: [{ target: llm.sim.primary, model: m }]
    backend: backend.sim
    actions: { url: "${w.backend.url}", timeout: 1s }
    heartbeat: 500ms
    heartbeat_fall: 40 # a busy machine calls nobody dead, whose way back would take minutes
    ack: 300ms
    ack_alert: 5s
    restore_hold: 300ms
    backend_step: 200ms
`).join('')}baseline: { path: ${path.join(stack.dir, 'baseline.yaml')} }
fallback: { lease_ttl: 1s, member_ttl: 1s, fence: 2s }
guard: { lease_ttl: 1s, member_ttl: 1s, queue: { replay_rate: 2000, retry: 100ms } }
alert:
  channels: [{ name: record, type: file, path: ${path.join(stack.dir, 'alerts.jsonl')} }]
`;
}

// `body(stack, world)` with world = {backend, llm, agents, nc, replicas}; replicas are named guard, guard2, fallback, fallback2.
export async function withActing(name, { n = 10, pace_ms = 20 } = {}, body) {
  const w = { llm: await llm(), backend: await new CountingBackend().open() };
  try {
    await withStack(name, (stack) => {
      fs.writeFileSync(path.join(stack.dir, 'baseline.yaml'), baselineText());
      return settings(w, stack, Array.from({ length: n }, (_, i) => agentName(i)));
    }, async (stack) => {
      const signed = await stack.cli(['baseline', 'sign', path.join(stack.dir, 'baseline.yaml'), '--by', 'e2e']);
      if (signed.code !== 0) throw new Error(`baseline sign: ${signed.out}${signed.err}`);
      for (const s of ['guard', 'fallback']) {
        const p = stack.procs.get(s);
        stack.define(`${s}2`, p.command, p.args);
        stack.run(s);
        stack.run(`${s}2`);
      }
      w.replicas = ['guard', 'guard2', 'fallback', 'fallback2'];
      w.nc = await stack.nats('agents');
      w.agents = Array.from({ length: n }, (_, i) => new Actor(w.nc, agentName(i), { 'llm.sim.primary': w.llm.url }, { heartbeat_ms: 500, call_ms: 2000, pace_ms }));
      for (const a of w.agents) a.start();
      try {
        await until(() => `all agents to act; ${JSON.stringify(w.agents.map((a) => [a.state?.posture, a.last]))}`, () => w.agents.every((a) => a.accepted.size > 0), 30000);
        await body(stack, w);
      } finally {
        await Promise.all(w.agents.map((a) => a.stop()));
      }
    }, { services: ['audit', 'alert', 'breaker', 'health'] });
  } finally {
    await w.backend.close();
    await w.llm.close();
  }
}
