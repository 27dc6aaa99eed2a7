// scale-same.mjs - one story, told by however many replicas: what came of it, in a form in which two tellings can be compared.
import { decode } from './contract.mjs';
import { Actor } from './actor.mjs';
import { Ledger } from './ledger.mjs';
import { readStream } from './agent.mjs';
import { BACKEND, BACKUP, PRIMARY } from './scale-story.mjs';
import { last } from './small.mjs';
import { until } from './wait.mjs';

const EACH = 8; // actions of each agent in each chapter
const all = (agents, what) => () => agents.every((a) => a.state && what(a.state));
const CHAPTERS = [
  { name: 'the primary dies', act: (w) => w.primary.close(), right: (s) => s.llm_target === BACKUP },
  { name: 'the backup dies', act: (w) => w.backup.close(), right: (s) => s.posture === 'POSTURE_SECURITY_FALLBACK' },
  { name: 'the primary returns', act: (w) => w.primary.open(), right: (s) => s.posture === 'POSTURE_NORMAL' && s.llm_target === PRIMARY },
  { name: 'the backup returns', act: (w) => w.backup.open(), right: (s) => s.posture === 'POSTURE_NORMAL' },
  { name: 'the backend dies', act: (w) => w.backend.close(), right: (s) => s.backend === 'BACKEND_MODE_DEGRADED' },
  { name: 'the backend returns', act: (w) => w.backend.open(), right: (s) => s.posture === 'POSTURE_NORMAL' && s.backend === 'BACKEND_MODE_UP' },
];

// What people heard of each problem, without what is another each time; incidents by their order. What was said again with news in it is left out: how many relapses
// there are on the way back is a matter of time.
function about(alerts) {
  const incidents = [...new Set(alerts.map((a) => a.dedup_key).filter((k) => k.startsWith('incident/')))];
  const key = (k) => (incidents.includes(k) ? `incident/${incidents.indexOf(k)}` : k);
  const by = new Map();
  for (const a of alerts) by.set(key(a.dedup_key), (by.get(key(a.dedup_key)) ?? new Set()).add(a.resolved ? 'over' : 'there'));
  return Object.fromEntries([...by].map(([k, said]) => [k, [...said]]).toSorted(([x], [y]) => x.localeCompare(y)));
}

// {directives: {agent: [posture ...]}, alerts: [...], actions: {done, queued, refused}, overrides}
export async function tell(town, names) {
  const { w, nc } = town;
  const ledger = new Ledger(nc);
  const agents = names.map((name) => new Actor(nc, name, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url }, { heartbeat_ms: 500, call_ms: 100 }));
  const queued = [];
  // The alerts that people were told of.
  const told = async (since) => {
    const receipts = await ledger.receipts();
    return (await readStream(nc, 'REDOUBT_ALERTS')).map((m) => decode('Alert', m.data)).filter((a) => a.raised_unix_ms >= since && receipts.get(a.id)?.some((r) => r.status === 'DELIVERY_STATUS_ACCEPTED'));
  };
  try {
    for (const a of agents) {
      a.acting = false;
      a.start();
    }
    // What a busy machine's start has brought is over, and is no part of the story.
    const over = async () => {
      const now = new Map((await told(0)).map((a) => [a.dedup_key, a]));
      return [...now.values()].every((a) => a.resolved);
    };
    await until(() => `a beginning in which all is well: ${JSON.stringify(agents.map((a) => a.state))}`, all(agents, (s) => s.posture === 'POSTURE_NORMAL'), 60000);
    for (const target of [PRIMARY, BACKUP, BACKEND])
      await until(`${target} to be called well`, async () => (await last(nc, 'HealthChanged', `redoubt.v1.health.${target}`))?.state === 'HEALTH_STATE_HEALTHY', 60000);
    await until('nobody to be told of anything', over, 60000);
    await until('all to be well still', all(agents, (s) => s.posture === 'POSTURE_NORMAL'), 60000);
    const began = Date.now(), at_first = new Map(agents.map((a) => [a.name, a.applied.length - 1]));
    w.backend.overrides.length = 0;
    for (const c of CHAPTERS) {
      await c.act(w);
      await until(() => `${c.name}: ${JSON.stringify(agents.map((a) => a.state))}`, all(agents, c.right), 60000);
      await Promise.all(agents.map(async (a) => {
        for (let i = 0; i < EACH; i++) await a.one(++a.n);
      }));
      queued.push(agents.reduce((n, a) => n + [...a.accepted.values()].filter((how) => how.startsWith('QUEUED')).length, 0));
    }
    await until(() => `every action to be done: ${w.backend.executed.size}`, () => w.backend.executed.size === agents.length * EACH * CHAPTERS.length, 30000);
    await until('every alert to be dealt with', async () => (await ledger.open()) === 0, 30000);
    await until('the override to be released', () => w.backend.override.active === null, 30000);
    await until('every problem to be over', over, 60000);
    await until('every alert to be dealt with', async () => (await ledger.open()) === 0, 30000);
    const postures = (a) => a.applied.slice(at_first.get(a.name)).map((d) => `${d.state.posture.slice(8)} ${d.state.llm_target} ${d.state.backend.slice(13)}`).filter((p, i, list) => p !== list[i - 1]);
    return {
      directives: Object.fromEntries(agents.map((a) => [a.name, postures(a)])),
      alerts: about(await told(began)),
      repeated: await ledger.repeated(),
      queued,
      actions: [...w.backend.executed].map(([id, times]) => `${id} ${times}`).toSorted(),
      overrides: [...new Map(w.backend.overrides.map((o) => [o.key, o.verb])).values()].toSorted(),
    };
  } finally {
    await Promise.all(agents.map((a) => a.stop()));
  }
}
