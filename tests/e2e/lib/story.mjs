// story.mjs - the suite's main job as a story: a whole LLM outage there and back, with whatever else a test breaks meanwhile.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { Agent, readAudit, readStream } from './agent.mjs';
import { decode } from './contract.mjs';
import { withStack } from './stack.mjs';
import { until } from './wait.mjs';
import { backend, llm, mail, slack } from './world.mjs';

const AGENT = 'mcp-security-agent';
const PRIMARY = 'llm.sim.primary';
const BACKUP = 'llm.sim.backup';

// `patient`: for tests that ask what does NOT happen, which a busy machine must not spoil: nobody is called dead for being slow.
export function settings(w, file, { patient = false } = {}) {
  const timeout = patient ? '5s' : '1s';
  const target = (name, kind, probe) => `  - name: ${name}
    kind: ${kind}
    probe: { ${probe}, interval: 500ms, fast_interval: 200ms, timeout: ${timeout}, fall: 3, rise: 2 }
    breaker: { window: 10s, min_calls: 10, failure_ratio: 50%, consecutive: 4, open: 1s, open_max: 2s, permit: 2s, ramp_step: 300ms }
`;
  return `targets:
${target(PRIMARY, 'llm', `type: llm, url: "${w.primary.url}", model: gpt-4o`)}${target(BACKUP, 'llm', `type: llm, url: "${w.backup.url}", model: gpt-3.5-turbo`)}${target('backend.sim', 'backend', `type: http, url: "${w.backend.url}/health"`)}agents:
  - name: ${AGENT}
    chain:
      - { target: ${PRIMARY}, model: gpt-4o }
      - { target: ${BACKUP}, model: gpt-3.5-turbo }
    backend: backend.sim
    override: { url: "${w.backend.url}", retry: 500ms }
    heartbeat: 200ms
    heartbeat_fall: ${patient ? 100 : 5}
    ack: 500ms
    ack_alert: 3s
    restore_hold: 500ms
    backend_step: 500ms
    recovery:
      step: 500ms
alert:
  channels:
    - { name: post, type: email, url: "${w.mail.url}", from: redoubt@example.org, to: [ops@example.org], attempt: 1s, tries: 2 }
    - { name: chat, type: slack, url: "${w.slack.url}/hook", attempt: 1s, tries: 2 }
    - { name: record, type: file, path: ${file} }
  routes:
    - { min_severity: info, channels: [post, chat, record] }
`;
}

// The steps. `act` breaks or mends the world; `done` says whether the suite has brought the agent where it belongs.
export const STEPS = [
  {
    name: 'primary dies',
    act: (w) => w.primary.close(),
    done: (w) => w.agent.state?.llm_target === BACKUP,
    what: 'the agent on its backup model',
  },
  {
    name: 'backup dies',
    act: (w) => w.backup.close(),
    done: (w) => w.agent.state?.posture === 'POSTURE_SECURITY_FALLBACK' && w.backend.active && w.slack.messages.some((m) => /override/i.test(JSON.stringify(m))),
    what: 'security fallback, override active, alert in Slack',
  },
  {
    name: 'both return',
    act: async (w) => { await w.primary.open(); await w.backup.open(); },
    done: (w) => w.agent.state?.posture === 'POSTURE_NORMAL' && w.agent.state.llm_target === PRIMARY && !w.backend.active,
    what: 'the agent on its primary, override released',
  },
];

// Runs the story. `disturb(stack, world, stepIndex)` is called right after each act; -1 is before the first.
export async function runStory(name, { disturb = async () => {}, options, check = async () => {} } = {}) {
  const w = { primary: await llm(), backup: await llm(), backend: await backend(), slack: await slack(), mail: await mail() };
  w.mail.mode = 'refuse-rcpt';
  try {
    await withStack(name, (stack) => settings(w, path.join(stack.dir, 'alerts.jsonl')), async (stack) => {
      const nc = await stack.nats('agent');
      w.agent = new Agent(nc, AGENT, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url });
      w.agent.start();
      const where = () => `agent ${JSON.stringify(w.agent.state)}, override ${w.backend.active}, slack ${w.slack.messages.length}`;
      try {
        await until(() => `a first directive; ${where()}`, () => w.agent.state?.posture === 'POSTURE_NORMAL');
        // The suite has seen the primary work; only then is its death news.
        await until('the primary to be called', () => w.primary.requests.length > 3);
        await disturb(stack, w, -1);
        for (const [i, step] of STEPS.entries()) {
          await step.act(w);
          const trouble = disturb(stack, w, i);
          await until(() => `${step.name}: ${step.what}; ${where()}`, () => step.done(w), 40000);
          await trouble;
          // Whatever was killed is back now, and the position still holds.
          await until(() => `${step.name}, after the trouble: ${step.what}; ${where()}`, () => step.done(w), 40000);
        }
        await checkEverything(stack, w, await stack.nats(), path.join(stack.dir, 'alerts.jsonl'));
        await check(stack, w, nc);
      } finally {
        await w.agent.stop();
      }
      const ends = await stack.stop();
      for (const [service, end] of Object.entries(ends)) assert.equal(end.code, 0, `${service} drains and ends with 0: ${JSON.stringify(end)}`);
      await checkAudit(stack);
    }, options);
  } finally {
    for (const s of [w.primary, w.backup, w.backend, w.slack, w.mail]) await s.close();
  }
  return w;
}

// What must hold at the end of every story, whatever was killed on the way.
async function checkEverything(stack, w, nc, file) {
  // One epoch, one directive: repeats carry the same id and the same contents.
  const byEpoch = new Map();
  for (const d of w.agent.directives) {
    const { id, ...rest } = d;
    const text = JSON.stringify(rest);
    const seen = byEpoch.get(d.state.epoch);
    if (seen) assert.deepEqual({ id, text }, seen, `epoch ${d.state.epoch} was used for two directives`);
    byEpoch.set(d.state.epoch, { id, text });
  }
  const epochs = w.agent.applied.map((d) => d.state.epoch);
  assert.deepEqual(epochs, [...epochs].sort((a, b) => a - b), 'epochs only grow');
  // One activation, whatever was repeated; and it was released.
  assert.ok(w.backend.activations.length >= 1, 'the override was activated');
  assert.equal(w.backend.active, null, 'the override was released');

  // No alert is lost: each one on the stream has an accepting receipt, and a line in the record.
  const alerts = (await readStream(nc, 'REDOUBT_ALERTS')).map((m) => decode('Alert', m.data));
  assert.ok(alerts.some((a) => a.severity === 'SEVERITY_HIGH' && a.actions_taken.includes('override_activated')), 'the security fallback was alerted with its actions');
  await until('a receipt for every alert', async () => {
    const receipts = (await readStream(nc, 'REDOUBT_EVENTS', 'redoubt.v1.delivery.>')).map((m) => decode('DeliveryReceipt', m.data));
    const lines = fs.readFileSync(file, 'utf8');
    return alerts.every((a) => receipts.some((r) => r.alert_id === a.id) && lines.includes(a.id));
  });
  // The refused mail made Slack take over, and that was said.
  const receipts = (await readStream(nc, 'REDOUBT_EVENTS', 'redoubt.v1.delivery.>')).map((m) => decode('DeliveryReceipt', m.data));
  assert.ok(receipts.some((r) => r.channel === 'post' && r.status === 'DELIVERY_STATUS_FAILED'), 'the mail channel failed');
  assert.ok(receipts.some((r) => r.channel === 'chat' && r.status === 'DELIVERY_STATUS_ACCEPTED'), 'Slack accepted');
  assert.equal(w.mail.messages.length, 0);

  // Every audit record of the stream is in the trail sooner or later.
  const records = await readAudit(nc);
  assert.ok(records.length > 0, 'there is an audit trail');
  await until('every audit record in the trail', () => {
    const dir = path.join(stack.dir, 'data/audit/0');
    const trail = Buffer.concat(fs.readdirSync(dir).filter((f) => f.endsWith('.seg')).map((f) => fs.readFileSync(path.join(dir, f))));
    return records.every((r) => trail.includes(Buffer.from(r.id)));
  });
}

async function checkAudit(stack) {
  const r = await stack.cli(['audit', 'verify', path.join(stack.dir, 'data/audit/0')]);
  assert.equal(r.code, 0, `audit verify: ${r.out}${r.err}`);
}
