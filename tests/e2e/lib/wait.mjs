// wait.mjs - waiting for conditions. Nothing in the tests sleeps for luck.
import { setTimeout as pause } from 'node:timers/promises';

// Sanitised programs are slower: limits grow with REDOUBT_SLOW.
export const slow = Number(process.env.REDOUBT_SLOW ?? 1);

// Asks again until `condition` gives something truthy, and returns that. Throws with `what` after `limit_ms`.
export async function until(what, condition, limit_ms = 20000) {
  const end = Date.now() + limit_ms * slow;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${limit_ms * slow} ms in vain for: ${typeof what === 'function' ? what() : what}`);
    await pause(20);
  }
}

export { pause };
