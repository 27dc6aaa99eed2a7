// make.mjs - writes what the present version leaves behind when it is killed in the middle of an outage: run at a release, then kept for ever.
//   node tests/e2e/golden/make.mjs tests/e2e/golden/0.1.0.json.gz      (after `make`; REDOUBT_BIN names other programs)
// Both LLMs are away, the override is active; one alert is on its stream and told to nobody yet, what was said last is only in the outboxes.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { readStream } from '../lib/agent.mjs';
import { decode, encode, ceHeaders, top } from '../lib/contract.mjs';
import { saveFiles, saveRedis, saveStreams, write } from '../lib/golden.mjs';
import { AGENT, BACKUP, withSmall } from '../lib/small.mjs';
import { SERVICES } from '../lib/stack.mjs';
import { pause, until } from '../lib/wait.mjs';

const [file] = process.argv.slice(2);
if (!file) throw new Error('usage: make.mjs FILE');
const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');

await withSmall('golden', async (stack, w, nc) => {
  await w.primary.close();
  await until('the backup', () => w.agent.state?.llm_target === BACKUP);
  await w.backup.close();
  await until('security fallback', () => w.agent.state?.posture === 'POSTURE_SECURITY_FALLBACK' && w.backend.active);
  await until('every alert told', async () => {
    const alerts = (await readStream(nc, 'REDOUBT_ALERTS')).map((m) => decode('Alert', m.data));
    const told = (await readStream(nc, 'REDOUBT_EVENTS', 'redoubt.v1.delivery.>')).map((m) => decode('DeliveryReceipt', m.data).alert_id);
    return alerts.some((a) => a.severity === 'SEVERITY_HIGH') && alerts.every((a) => told.includes(a.id));
  });
  // An alert that nobody has told: the service is killed before it comes.
  await stack.kill('alert');
  const id = 'golden-untold';
  await nc.request('redoubt.v1.alert', encode('Alert', { id, source: 'golden', severity: 'SEVERITY_HIGH', agent: AGENT, summary: 'told by the next version', evidence_unix_ms: Date.now(),
    dedup_key: id, raised_unix_ms: Date.now() }), { headers: ceHeaders('Alert', id, 'golden') });
  // What is said from here on is in the outboxes only.
  await w.agent.stop();
  const before = outboxes(stack);
  await stack.kill('nats');
  await w.primary.open();
  await until('somebody to say something that stays in the outbox', () => outboxes(stack) > before, 60000);
  await pause(1000);
  for (const s of SERVICES) await stack.kill(s);
  // Now that nobody says anything any more, what the servers hold is looked at.
  stack.run('nats');
  await stack.ready();
  const streams = await saveStreams(await stack.nats('golden'));
  const redis = await saveRedis(await stack.redis());
  const version = execFileSync(path.join(bin, 'redoubt'), ['--version'], { encoding: 'utf8' }).trim();
  const files = saveFiles(path.join(stack.dir, 'data'));
  write(file, { version, taken: new Date().toISOString(), agent: AGENT, untold: id, streams, redis, files });
  console.log(`${version}: ${streams.length} streams, ${streams.reduce((n, s) => n + s.messages.length, 0)} messages, ${redis.length} keys, ${files.length} files; ${fs.statSync(file).size} bytes`);
}, { patient: true });

function outboxes(stack) {
  let bytes = 0;
  for (const f of fs.readdirSync(path.join(stack.dir, 'data'), { recursive: true }))
    if (/outbox-\w+\.log$/.test(f)) bytes += fs.statSync(path.join(stack.dir, 'data', f)).size;
  return bytes;
}
