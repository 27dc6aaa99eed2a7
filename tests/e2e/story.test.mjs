// story.test.mjs - a whole LLM outage is survived on real parts, with nothing else going wrong.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runStory } from './lib/story.mjs';

test('a whole LLM outage, there and back', { timeout: 300000 }, async () => {
  const w = await runStory('story');
  const steps = w.agent.applied.map((d) => d.step);
  for (const s of ['STEP_INITIAL', 'STEP_SWITCH_LLM', 'STEP_SECURITY_FALLBACK', 'STEP_RESTORE_LLM']) assert.ok(steps.includes(s), `${s} in ${steps}`);
  assert.equal(w.backend.activations.length, 1, 'activated once');
  const { request } = w.backend.activations[0];
  assert.equal(request.duration, 3600000);
});
