// kill.test.mjs - kill -9 of each service, NATS and Redis at each step of the story, restarted after 3 s: it still ends right.
import { describe, test } from 'node:test';
import { SERVICES } from './lib/stack.mjs';
import { runStory, STEPS } from './lib/story.mjs';
import { pause } from './lib/wait.mjs';

const RESTART_MS = 3000; // how long the victim stays dead
const CHUNK = Number(process.env.REDOUBT_KILL_PARALLEL ?? 4);

// The delay from the step's trigger to the kill walks over the whole reaction, from before the first report to after the acknowledgement.
const cases = [];
for (const victim of [...SERVICES, 'nats', 'redis'])
  for (const step of [-1, ...STEPS.keys()]) cases.push({ victim, step, delay_ms: (cases.length * 97) % 700 });

describe('kill -9', { concurrency: CHUNK, timeout: 580000 }, () => {
  for (const { victim, step, delay_ms } of cases)
    test(`${victim} ${delay_ms} ms after ${step < 0 ? 'all is well' : STEPS[step].name}`, { timeout: 200000 }, () =>
      runStory(`kill-${victim}`, {
        async disturb(stack, _w, at) {
          if (at !== step) return;
          await pause(delay_ms);
          await stack.kill(victim);
          await pause(RESTART_MS);
          stack.run(victim);
        },
      }));
});
