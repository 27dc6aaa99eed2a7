// wait.mjs - waiting for conditions. Nothing in the tests sleeps for luck.
import { setTimeout as pause } from 'node:timers/promises';

// Sanitised programs are slower: limits grow with REDOUBT_SLOW.
export const slow = Number(process.env.REDOUBT_SLOW ?? 1);

// Asks again until `condition` gives something truthy, and returns that. Throws with `what` after `limit_ms`. Asking takes at most a
// fifth of the time: many conditions run a program, and the tests beside this one need the same cores.
export async function until(what, condition, limit_ms = 20000) {
  const end = Date.now() + limit_ms * slow;
  for (;;) {
    const asked = Date.now();
    const found = await condition();
    if (found) return found;
    const now = Date.now();
    if (now > end) throw new Error(`waited ${limit_ms * slow} ms in vain for: ${typeof what === 'function' ? what() : what}`);
    await pause(Math.min(250, Math.max(20, 4 * (now - asked))));
  }
}

export { pause };
