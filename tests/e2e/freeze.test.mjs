// freeze.test.mjs - once a freeze is answered, no action of that agent reaches the backend, whatever is paused, killed or cut meanwhile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withActing } from './lib/acting.mjs';
import { pause, until } from './lib/wait.mjs';

// What happens around the freeze. Each is undone afterwards.
const TROUBLES = [
  { name: 'nothing', before: async () => {}, after: async () => {} },
  { name: 'a guard paused', before: async (s) => s.kill0('guard', 'SIGSTOP'), after: async (s) => s.kill0('guard', 'SIGCONT') },
  { name: 'a guard killed', before: async (s) => { await s.kill('guard2'); }, after: async (s) => { s.run('guard2'); } },
  { name: 'a fallback paused past its lease', before: async (s) => s.kill0('fallback', 'SIGSTOP'), after: async (s) => s.kill0('fallback', 'SIGCONT') },
  { name: 'a fallback killed', before: async (s) => { await s.kill('fallback2'); }, after: async (s) => { s.run('fallback2'); } },
  { name: 'the bus restarted', before: async (s) => { await s.kill('nats'); s.run('nats'); await s.ready(); }, after: async () => {} },
  { name: 'Redis restarted', before: async (s) => { await s.kill('redis'); s.run('redis'); await s.ready(); }, after: async () => {} },
];

test('frozen means frozen', { timeout: 280000 }, async () => {
  await withActing('freeze', { n: 4, pace_ms: 1 }, async (stack, w) => {
    stack.kill0 = (name, signal) => process.kill(stack.pid(name), signal);
    const agent = w.agents[0];
    for (const t of TROUBLES) {
      const had = agent.accepted.size;
      await until(`${t.name}: the agent to act`, () => agent.accepted.size > had + 5, 40000);
      await t.before(stack);
      let answer;
      // With a replica paused or gone the first tries may be told to try again; the one that says yes counts.
      await until(() => `${t.name}: the freeze to be answered; ${JSON.stringify(answer)}`, async () => {
        answer = await stack.cli(['freeze', agent.name, '--by', 'e2e', '--reason', t.name]);
        return answer.code === 0;
      }, 40000);
      const frozen_at = performance.now();
      await pause(300); // the agent goes on asking meanwhile; what it gets is looked at below
      await t.after(stack);
      const others = w.agents[1].accepted.size;
      await until(`${t.name}: the others to go on`, () => w.agents[1].accepted.size > others + 5, 40000);
      const late = w.backend.calls.filter((c) => c.agent === agent.name && c.at > frozen_at);
      assert.deepEqual(late, [], `${t.name}: actions after the freeze was answered`);
      await until(() => `${t.name}: the agent to be refused; ${JSON.stringify(agent.last)}`, () => agent.last?.refusal === 'REFUSAL_REASON_FROZEN', 40000);
      let mended;
      await until(() => `${t.name}: unfrozen; ${JSON.stringify(mended)}`, async () => {
        mended = await stack.cli(['unfreeze', agent.name, '--by', 'e2e', '--reason', 'next', '--without-selftest']);
        return mended.code === 0;
      }, 40000);
    }
  });
});
