// scale-story.mjs - replicas come, go and are killed while outages come and go; at the end nothing is lost, nothing done twice, and everybody where they belong.
//
// The suite is a `town`, made of processes or of containers: {w, nc, begin(replicas), scale(service, n, which), kill(service, which), settled(service, n), trails()}, and where
// not everybody may do everything {ops, says}: who reads, and who raises alerts and appends records. See withWorld for w.
import assert from 'node:assert/strict';
import { decode } from './contract.mjs';
import { Actor, accounts, CountingBackend } from './actor.mjs';
import { readStream } from './agent.mjs';
import { idsOf, Ledger } from './ledger.mjs';
import { OUTAGES, plan } from './scale-plan.mjs';
import { last } from './small.mjs';
import { pause, until } from './wait.mjs';
import { llm, mail, slack } from './world.mjs';

export const PRIMARY = 'llm.sim.primary', BACKUP = 'llm.sim.backup', BACKEND = 'backend.sim';
export const MOST = { health: 3, breaker: 2, fallback: 2, guard: 3, alert: 2, audit: 2, continuity: 2 };
const INTERVAL_MS = 500; // of the backend's probe
const KILLED_MS = 15000; // what was in hand when a process was killed is told again within this time

// A backend that also knows overrides, and who asks for its health.
class Backend extends CountingBackend {
  probes = []; // when
  overrides = []; // {verb, key, at}

  serve(req, res) {
    const m = /^\/api\/admin\/override\/(activate|deactivate)$/.exec(req.url);
    if (m) {
      const key = req.headers['idempotency-key'];
      this.overrides.push({ verb: m[1], key, at: Date.now() });
      this.override.active = m[1] === 'activate' ? key : null;
    }
    if (req.url === '/health') this.probes.push(Date.now());
    super.serve(req, res);
  }
}

// Everything around the suite, on an address of this machine that the suite can reach.
export async function withWorld(host, body) {
  const w = { primary: await llm(host), backup: await llm(host), backend: await new Backend().open(host), chat: await slack(host), mail: await mail(host) };
  w.told = () => [...w.chat.requests.filter((r) => r.method === 'POST').map((r) => ({ by: 'chat', at: r.at, text: r.body })), ...w.mail.messages.map((m) => ({ by: 'post', at: m.at, text: m.text }))];
  try {
    return await body(w);
  } finally {
    for (const s of [w.primary, w.backup, w.backend, w.chat, w.mail]) await s.close();
  }
}

export const agentNames = (n) => Array.from({ length: n }, (_, i) => `agent-${i}`);

// Settings of targets, agents and alerts. `record`: path of the alerts' record.
export function settings(w, agents, { baseline, record }) {
  const breaker = 'window: 5s, min_calls: 5, failure_ratio: 50%, consecutive: 4, open: 500ms, open_max: 1s, permit: 2s, ramp_step: 200ms';
  const model = (name, s) => `  - name: ${name}
    kind: llm
    probe: { type: llm, url: "${s.url}", model: m, interval: 1s, fast_interval: 300ms, timeout: 5s, fall: 3, rise: 1 }
    breaker: { ${breaker} }
`;
  return `targets:
${model(PRIMARY, w.primary)}${model(BACKUP, w.backup)}  - name: ${BACKEND}
    kind: backend
    probe: { type: http, url: "${w.backend.url}/health", interval: ${INTERVAL_MS}ms, fast_interval: 200ms, timeout: 5s, fall: 3, rise: 1 }
    breaker: { ${breaker} }
agents:
${agents.map((name) => `  - name: ${name}
    chain: [{ target: ${PRIMARY}, model: m }, { target: ${BACKUP}, model: m }]
    backend: ${BACKEND}
    override: { url: "${w.backend.url}", retry: 300ms }
    actions: { url: "${w.backend.url}", timeout: 2s }
    heartbeat: 500ms
    heartbeat_fall: 60
    ack: 500ms
    ack_alert: 10s
    restore_hold: 300ms
    backend_step: 200ms
    recovery: { step: 300ms }
`).join('')}baseline: { path: ${baseline} }
fallback: { lease_ttl: 1s, member_ttl: 1s, fence: 3s }
guard: { lease_ttl: 1s, member_ttl: 1s, queue: { replay_rate: 1000, retry: 200ms } }
health: { member_ttl: 1500ms }
alert:
  lease_ttl: 1s
  channels:
    - { name: chat, type: slack, url: "${w.chat.url}/hook", attempt: 5s, tries: 2, rate: 0 }
    - { name: post, type: email, url: "${w.mail.url}", from: redoubt@example.org, to: [ops@example.org], attempt: 5s, tries: 2, rate: 0 }
    - { name: record, type: file, path: ${record} }
  routes:
    - { min_severity: info, channels: [chat, post, record] }
continuity:
  phases: { settle: 1s, validate: 5s, join_within: 10s }
  lease_ttl: 1s
`;
}

// What an outage asks of each agent; '' = nothing is away.
function right(outage, s) {
  const away = OUTAGES[outage] ?? [];
  const target = !away.includes('primary') ? PRIMARY : away.includes('backup') ? '' : BACKUP;
  if (!s || s.llm_target !== target || (s.backend === 'BACKEND_MODE_DEGRADED') !== away.includes('backend')) return false;
  return away.some((a) => a !== 'chat') || (s.posture === 'POSTURE_NORMAL' && s.backend === 'BACKEND_MODE_UP');
}

async function turn(w, from, to) {
  const was = OUTAGES[from] ?? [], is = OUTAGES[to] ?? [];
  for (const part of is) if (!was.includes(part)) await w[part].close();
  for (const part of was) if (!is.includes(part)) await w[part].open();
}

const short = (a) => [a.name, a.state?.posture, a.state?.llm_target, a.state?.backend, a.state?.epoch, a.accepted.size, a.last?.decision, a.last?.refusal, a.last?.detail];

// The story; prints its table. Gives the sums.
export async function runScaling(town, { seed, n, agents: names, most = MOST, say = console.log }) {
  const { first, events } = plan(seed, n, most);
  say(`seed ${seed}; at first ${JSON.stringify(first)}`);
  await town.begin(first);
  const { w, nc, ops = nc, says } = town;
  const kills = []; // {service, at}
  const cuts = []; // when the chat went away
  const ledger = new Ledger(ops, { says });
  const agents = names.map((name) => new Actor(nc, name, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url }, { heartbeat_ms: 500, call_ms: 250, pace_ms: 60 }));
  const where = (e) => `${e ? `event ${JSON.stringify(e)} of seed ${seed}; ` : ''}${JSON.stringify(agents.map(short))}`;
  for (const a of agents) a.start();
  ledger.start();
  const began = Date.now(), rows = [];
  try {
    await until(() => `all agents to act; ${where()}`, () => agents.every((a) => a.accepted.size > 0 && right('', a.state)), 60000);
    let outage = '';
    for (const e of events) {
      const at = Date.now();
      if (e.outage === 'chat' && outage !== 'chat') cuts.push(Date.now());
      await turn(w, outage, e.outage);
      outage = e.outage;
      await pause(e.after_ms);
      if (e.kind === 'kill') {
        kills.push({ service: e.service, at: Date.now() });
        await town.kill(e.service, e.which);
      } else await town.scale(e.service, e.to, e.which);
      if (!e.hurry) {
        await until(() => `all agents where they belong; ${where(e)}`, () => agents.every((a) => right(outage, a.state)), 60000);
        // Somebody has acted since, or it was queued: nobody stands still.
        const had = agents.map((a) => a.n);
        await until(() => `all agents to act on; ${where(e)}`, () => agents.every((a, i) => a.n > had[i]), 60000);
      }
      rows.push({ event: e.n, 'at s': ((at - began) / 1000).toFixed(1), service: e.service, what: e.kind === 'kill' ? `1 of ${e.from} killed` : `${e.from} -> ${e.to}`, outage: outage || '-',
        'right after s': e.hurry ? '-' : ((Date.now() - at) / 1000).toFixed(1) });
    }
    await turn(w, outage, '');
    await until(() => `all agents to be well; ${where()}`, () => agents.every((a) => right('', a.state)), 60000);
    for (const a of agents) a.acting = false;
    await ledger.stop();
    const sums = await settle(town, { ledger, agents, kills, cuts, where });
    say(table([sums]));
    return sums;
  } finally {
    if (rows.length) say(table(rows));
    ledger.stopped = true;
    await Promise.all(agents.map((a) => a.stop()));
  }
}

async function settle(town, { ledger, agents, kills, cuts, where }) {
  const { w, ops: nc = town.nc } = town;
  // Actions: what was taken over is done, once; what was never answered is asked for again until it is.
  const open = () => agents.flatMap((a) => [...a.unknown].map((u) => `${a.name}/${u}`));
  await until(() => `every action to be accounted for; ${accounts(agents, w.backend).slice(0, 5)}; open: ${open()}; ${where()}`,
    () => open().length === 0 && accounts(agents, w.backend).length === 0, 60000);
  await until('nothing to wait in the queue', async () => (await nc.jetstreamManager()).streams.info('REDOUBT_ACTIONS').then((i) => i.state.messages === 0), 60000);
  const dead = (await readStream(nc, 'REDOUBT_DEAD')).map((m) => m.subject);
  assert.deepEqual(dead, [], 'nothing became a dead letter');

  // Alerts: each was told, and once.
  let people;
  await until(() => `every alert to be told; not yet: ${people?.lost.slice(0, 5)} (${people?.lost.length})`, () => (people = ledger.people(w.told())).lost.length === 0, 60000);
  let open_alerts;
  await until(() => `every alert to be dealt with; open: ${open_alerts}`, async () => (open_alerts = await ledger.open()) === 0, 60000);
  // Only what was in the hands of an alert service that was killed, or of a chat that was cut off before it had answered.
  const mine = kills.filter((k) => k.service === 'alert').map((k) => k.at);
  people = ledger.people(w.told());
  const unexplained = people.twice.filter(({ at }) => !mine.some((k) => at[0] > k - KILLED_MS && at[0] < k + 1000 && at[at.length - 1] > k - 1000) && !cuts.some((c) => Math.abs(at[0] - c) < 1000));
  assert.deepEqual(unexplained, [], `no alert was told twice but for what was in hand; killed: ${JSON.stringify(mine)}, chat cut: ${JSON.stringify(cuts)}`);
  // What a killed alert service had in hand is told late, perhaps behind its end, and says so; nothing else is.
  const late = await ledger.outdated();
  const says_so = (l) => w.told().some((t) => t.text.includes(l.summary) && t.text.includes('it is over meanwhile'));
  assert.deepEqual(late.filter((l) => !says_so(l)), [], 'who tells of what is over says so');
  assert.deepEqual(late.filter(({ at }) => !mine.some((k) => at > k && at < k + KILLED_MS)), [], 'what people heard last of a problem is how it is');
  assert.deepEqual(await ledger.repeated(), [], 'no alert was raised twice under two ids');

  // What was said: one epoch, one document; breakers closed, health well, overrides released.
  assert.deepEqual(ledger.doubles(), [], 'no epoch was used twice');
  for (const target of [PRIMARY, BACKUP, BACKEND]) {
    await until(`the breaker of ${target} to be closed`, async () => (await last(nc, 'BreakerChanged', `redoubt.v1.breaker.${target}`))?.state === 'BREAKER_STATE_CLOSED', 60000);
    await until(`${target} to be healthy`, async () => (await last(nc, 'HealthChanged', `redoubt.v1.health.${target}`))?.state === 'HEALTH_STATE_HEALTHY', 60000);
  }
  await until('the override to be released', () => w.backend.override.active === null, 60000);
  for (const a of agents) {
    const epochs = a.applied.map((d) => d.state.epoch);
    assert.deepEqual(epochs, epochs.toSorted((x, y) => x - y), `${a.name}: epochs only grow`);
    assert.equal((await last(nc, 'Directive', `redoubt.v1.directive.${a.name}`)).state.posture, 'POSTURE_NORMAL');
  }
  const incidents = await overlapping(nc);
  assert.deepEqual(incidents.twice, [], 'one outage is one incident');

  // Probes: with three watchers no more than one makes.
  await town.scale('health', 3);
  await town.settled('health', 3);
  const from = Date.now(), span_ms = 6000;
  await pause(span_ms);
  const probes = w.backend.probes.filter((p) => p >= from).length;
  assert.ok(probes >= 0.3 * span_ms / INTERVAL_MS && probes <= 1.15 * span_ms / INTERVAL_MS + 1, `${probes} probes of the backend in ${span_ms} ms by three watchers`);

  // Audit records: each is in the trails, once.
  const count = new Map();
  let missing;
  await until(() => `every record in the trail; missing: ${missing?.slice(0, 5)} (${missing?.length})`, async () => {
    count.clear();
    for (const bytes of await town.trails()) for (const id of idsOf(bytes)) count.set(id, (count.get(id) ?? 0) + 1);
    missing = [...ledger.records].filter((id) => !count.has(id));
    return missing.length === 0;
  }, 60000);
  const doubled = [...count].filter(([, c]) => c > 1).map(([id]) => id);
  assert.deepEqual(doubled, [], 'no record is in the trails twice');

  return { actions: w.backend.executed.size, 'lost ': 0, 'twice ': [...w.backend.executed.values()].filter((x) => x > 1).length, alerts: ledger.alerts.size, 'lost  ': people.lost.length,
    'told again': people.twice.length, 'told late': late.length, records: ledger.records.size, 'lost   ': missing.length, 'in two chains': doubled.length, directives: agents.reduce((s, a) => s + a.applied.length, 0),
    'epochs twice': ledger.doubles().length, incidents: incidents.n, 'probes/s': (probes / span_ms * 1000).toFixed(1) };
}

// Incidents of one key that were under way at one time; what is only still to be learnt from is over.
async function overlapping(nc) {
  const open = new Map(), all = new Set(), twice = [];
  for (const m of await readStream(nc, 'REDOUBT_EVENTS', 'redoubt.v1.incident.>')) {
    const i = decode('IncidentChanged', m.data);
    all.add(i.id);
    if (i.phase === 'INCIDENT_PHASE_LEARN' || i.phase === 'INCIDENT_PHASE_CLOSED') {
      if (open.get(i.key) === i.id) open.delete(i.key);
    } else if ((open.get(i.key) ?? i.id) !== i.id) twice.push(`${i.key}: ${open.get(i.key)} and ${i.id}`);
    else open.set(i.key, i.id);
  }
  return { n: all.size, twice };
}

// Rows of the same keys as a table.
function table(rows) {
  const heads = Object.keys(rows[0]);
  const wide = heads.map((h) => Math.max(h.length, ...rows.map((r) => String(r[h]).length)));
  const line = (cells) => `| ${cells.map((c, i) => String(c).padEnd(wide[i])).join(' | ')} |`;
  return ['', line(heads), ...rows.map((r) => line(heads.map((h) => r[h])))].join('\n');
}
