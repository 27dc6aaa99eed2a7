// auth.test.mjs - every part under its own user: the suite works with exactly those rights, and each refuses what it must.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RightsStack, ROOMS } from './lib/rights.mjs';
import { runStory } from './lib/story.mjs';

test('a whole LLM outage with every service under its own user', { timeout: 300000 }, async () => {
  await runStory('auth', { options: { Stack: RightsStack, services: ROOMS }, check: async (stack) => {
    assert.deepEqual(stack.refusals(), [], 'nobody was refused anything');
  } });
});
