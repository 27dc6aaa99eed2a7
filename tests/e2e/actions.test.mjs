// actions.test.mjs - backend outages while agents act, with a kill -9 of one process in each: nothing accepted is lost, nothing is done twice.
//
// REDOUBT_CHAOS_RUNS says how many outages (default 12, over four suites at once); REDOUBT_CHAOS_SEED repeats a choice of victims.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { withActing } from './lib/acting.mjs';
import { accounts } from './lib/actor.mjs';
import { random } from './lib/random.mjs';
import { pause, until } from './lib/wait.mjs';

const RUNS = Number(process.env.REDOUBT_CHAOS_RUNS ?? 12), SUITES = 4;
const SEED = Number(process.env.REDOUBT_CHAOS_SEED ?? Date.now() % 1e9);
const VICTIMS = ['guard', 'guard2', 'fallback', 'fallback2', 'breaker', 'health', 'audit', 'alert', 'nats', 'redis'];

async function outage(stack, w, run, draw) {
  const victim = VICTIMS[Math.floor(draw() * VICTIMS.length)], delay_ms = draw() * 1500, dead_ms = 200 + draw() * 1500;
  const what = `run ${run} of seed ${SEED}: kill -9 of ${victim} after ${delay_ms.toFixed(0)} ms`;
  const where = () => `${what}; ${JSON.stringify(w.agents.map((a) => [a.state?.posture, a.state?.epoch, a.accepted.size, a.last?.decision, a.last?.refusal, a.last?.detail]))}`;
  const kill = (async () => {
    await pause(delay_ms);
    await stack.kill(victim);
    await pause(dead_ms);
    stack.run(victim);
    await stack.ready();
  })();
  await w.backend.close();
  await until(() => `the agents to be degraded; ${where()}`, () => w.agents.every((a) => a.state.backend === 'BACKEND_MODE_DEGRADED'), 40000);
  const had = w.agents.map((a) => a.accepted.size);
  await until(() => `actions to be queued; ${where()}`, () => w.agents.every((a, i) => a.accepted.size > had[i]), 40000);
  await w.backend.open();
  await kill;
  await until(() => `the agents to be back; ${where()}`, () => w.agents.every((a) => a.state.posture === 'POSTURE_NORMAL'), 40000);
}

describe('outages with kills', { concurrency: SUITES, timeout: 1800000 }, () => {
  for (let suite = 0; suite < SUITES; suite++)
    test(`suite ${suite}`, { timeout: 1800000 }, () => withActing(`actions-${suite}`, { n: 8, pace_ms: 25 }, async (stack, w) => {
      const draw = random(SEED + suite);
      for (let run = suite; run < RUNS; run += SUITES) await outage(stack, w, run, draw);
      for (const a of w.agents) a.acting = false;
      // What waits is done in the end, and asking again what was never answered gives an answer.
      await until(() => `every action to be accounted for; ${accounts(w.agents, w.backend).slice(0, 5)}; open: ${w.agents.map((a) => [...a.unknown])}`,
        () => w.agents.every((a) => a.unknown.size === 0) && accounts(w.agents, w.backend).length === 0, 40000);
      assert.ok(w.agents.every((a) => a.accepted.size > 10), 'the agents did act');
    }));
});
