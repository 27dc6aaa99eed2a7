// small.mjs - a suite with one agent and two LLMs that are well, for tests that break one thing.
import path from 'node:path';
import { Agent } from './agent.mjs';
import { settings } from './story.mjs';
import { withStack } from './stack.mjs';
import { until } from './wait.mjs';
import { backend, llm, mail, slack } from './world.mjs';

export const AGENT = 'mcp-security-agent';
export const PRIMARY = 'llm.sim.primary';
export const BACKUP = 'llm.sim.backup';

// body(stack, w, nc); w holds the world and, unless `agent` is false, an agent that has its first directive.
export async function withSmall(name, body, { agent = true, patient = false, options } = {}) {
  const w = { primary: await llm(), backup: await llm(), backend: await backend(), slack: await slack(), mail: await mail() };
  try {
    await withStack(name, (stack) => {
      w.record = path.join(stack.dir, 'alerts.jsonl');
      w.settings = settings(w, w.record, { patient });
      return w.settings;
    }, async (stack) => {
      const nc = await stack.nats();
      if (agent) {
        w.agent = new Agent(nc, AGENT, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url });
        w.agent.start();
        await until('the first directive', () => w.agent.state?.posture === 'POSTURE_NORMAL');
      }
      try {
        await body(stack, w, nc);
      } finally {
        await w.agent?.stop();
      }
    }, options);
  } finally {
    for (const s of [w.primary, w.backup, w.backend, w.slack, w.mail]) await s.close();
  }
}

// The last message of a STATE subject, decoded; null if there is none.
export async function last(nc, name, subject) {
  const { decode } = await import('./contract.mjs');
  try {
    const jsm = await nc.jetstreamManager();
    return decode(name, (await jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: subject })).data);
  } catch (e) {
    if (/message not found|no message found|stream not found|503|no responders/i.test(e.message)) return null;
    throw e;
  }
}
