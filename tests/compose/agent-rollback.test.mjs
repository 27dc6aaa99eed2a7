// agent-rollback.test.mjs - the overlay agent-rollback.yml as it is told in deploy/README.md: a bad version of an agent is deployed by compose, and rolled back under load.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { decode } from '../e2e/lib/contract.mjs';
import { Load } from '../e2e/lib/rollback.mjs';
import { api, docker, host, noEngine, pause, tag, until, withProject } from './lib/compose.mjs';

const FILES = ['docker-compose.yml', 'deploy/compose/agent-rollback.yml', 'deploy/compose/airgap.yml', 'deploy/compose/agent-rollback-airgap.yml'];
const NAME = 'demo-agent';
const V1 = `${tag}-v1`, V2 = `${tag}-v2`; // the images' tags
const STEPS = [100, 50, 25, 10, 0];
const RPS = 40;
const skip = noEngine ?? (host?.startsWith('unix:') ? undefined : 'the overlay mounts the socket of the engine, and this one is reached by TCP');

const version = (v) => ({ DEMO_AGENT: v, DEMO_AGENT_REGRESS: v === V2 ? 'errors' : '' });
const short = (x) => x.replace(/^ROLLBACK_(PHASE|HOLD|STAGE)_/, '');
const sha = (text) => createHash('sha256').update(text).digest('hex');

// As `docker compose up --build` makes them; what is there already is taken.
async function image(project, v) {
  if (await docker('images', '-q', `redoubt/demo-agent:${v}`)) return;
  await project.ok(['build', NAME], { env: version(v), timeout_ms: 900000 });
}

// ---- eyes ----

const ROUND = 100; // the sum of both sides' weights

class Watch {
  constructor() {
    this.states = [];
    this.watchers = new Set();
  }

  async open(project) {
    this.nc = await project.nats();
    const sub = this.nc.subscribe(`redoubt.v1.rollback.${NAME}`);
    (async () => { for await (const m of sub) this.take(m.data); })();
    const jsm = await this.nc.jetstreamManager({ timeout: 10000, checkAPI: false });
    await until('the state of the deployment', async () => {
      try {
        this.take((await jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: `redoubt.v1.rollback.${NAME}` })).data);
      } catch { await pause(200); }
      return this.states.length > 0;
    }, 60000);
  }

  take(bytes) {
    const s = decode('RollbackChanged', bytes);
    if (this.states.length && s.epoch <= this.state().epoch) return;
    this.states.push({ ...s, seen: Date.now() });
    for (const w of this.watchers) w(this.state());
  }

  state() {
    return this.states.at(-1);
  }

  text() {
    const s = this.state();
    return s ? `${short(s.phase)} step ${s.step} ${short(s.stage)} ${s.reason} ${JSON.stringify(s.versions.map((v) => [v.name, v.state, v.reason]))}` : 'nothing';
  }

  wait(what, good, limit_ms = 60000) {
    return until(() => `${what}; it is ${this.text()}`, () => this.state() && good(this.state()) && this.state(), limit_ms);
  }

  current(name) {
    return (s) => s.versions.some((v) => v.name === name && v.id === s.current_version);
  }
}

const running = async (project) => (await project.containers(NAME)).filter((c) => c.state === 'running');

// The only container of the agent: of this version, and compose's own by its name and labels.
async function alone(project, v) {
  const all = await project.containers(NAME);
  assert.equal(all.length, 1, JSON.stringify(all));
  const is = await api('GET', `/containers/${all[0].id}/json`);
  assert.equal(is.State.Running, true);
  assert.equal(is.Image, (await api('GET', `/images/redoubt/demo-agent:${v}/json`)).Id);
  assert.match(is.Name.slice(1), new RegExp(`^${project.name}[_-]${NAME}[_-]1$`));
  assert.equal((await project.ok(['ps', '-q', NAME], { env: version(v) })).trim(), is.Id, 'compose takes it for its own');
  return is.Id;
}

// The replica that has moved the job last, by its log.
async function holder(project) {
  let best;
  for (const c of await project.containers('rollback')) {
    const last = Math.max(0, ...[...(await project.logs('rollback', c.index)).matchAll(/^ts=(\S+) .*event=(?:rollback|"an act[^"]*") deployment=demo-agent/gm)].map((m) => Date.parse(m[1])));
    if (!best || last > best.last) best = { index: c.index, last };
  }
  return best.index;
}

// Of the saved data: the very bytes that the agent had then, to which it has only added since.
async function saved(project, snapshot) {
  const restic = ['env', 'HOME=/tmp', 'restic', '-q', '--no-cache', '--no-lock', '-r', '/var/lib/learning-saved/repository', '-p', '/run/secrets/restic/password'];
  const run = async (...args) => {
    const r = await project.exec('rollback', args);
    assert.equal(r.code, 0, r.err);
    return r.out;
  };
  const found = JSON.parse(await run(...restic, 'snapshots', '--json')).find((x) => (x.original ?? x.id).startsWith(snapshot) || x.id.startsWith(snapshot));
  assert.ok(found, `snapshot ${snapshot} is in the repository`);
  const was = await run(...restic, 'dump', found.id, '/var/lib/demo-agent/learned.log');
  const is = await run('cat', '/var/lib/demo-agent/learned.log');
  return { was: was.length, is: is.length, same: was.length > 0 && sha(is.slice(0, was.length)) === sha(was) };
}

// ---- the story ----

test('a bad version is deployed by compose, and rolled back under load', { skip, timeout: 600000 }, () => withProject('back', {
  files: FILES, env: { DEMO_AGENT_PORT: '', DOCKER_SOCKET: host?.replace(/^unix:\/\//, ''), ...version(V1) },
}, async (project) => {
  const began = Date.now(), took = {};
  const mark = (what, since) => { took[what] = Date.now() - since; };
  await image(project, V1);
  await image(project, V2);
  let at = Date.now();
  project.scales.rollback = 2;
  await project.up(['rollback', 'audit', 'alert', NAME, 'agent-proxy', 'agent-engine']);
  mark('up', at);
  const watch = new Watch();
  await watch.open(project);
  await watch.wait('v1 to be verified', (s) => s.versions.some((v) => v.name === V1 && v.state === 'VERSION_STATE_VERIFIED') && watch.current(V1)(s));
  const front = Number((await project.published('agent-proxy', 8080)).split(':')[1]);
  const load = new Load(front, 1000 / RPS);
  load.start();
  try {
    await until('v1 to be served', () => load.seen.some((s) => s.version === V1));

    // As compose deploys: the former container is stopped first. What fails meanwhile is compose's own.
    at = Date.now();
    await project.ok(['up', '-d', '--no-build', '--no-deps', NAME], { env: version(V2) });
    await until('v2 to be served', () => load.seen.some((s) => s.version === V2));
    await watch.wait('v2 to be seen', watch.current(V2));
    mark('deployed', at);
    const gap = load.seen.filter((s) => s.at >= at && s.error && s.error !== 'status 500');
    await until('v2 to fail in what it does', () => load.seen.filter((s) => s.at > at && s.error === 'status 500').length > 5);

    const plan = await project.run('rollback', 'plan', NAME);
    assert.equal(plan.code, 0, plan.err);
    assert.match(plan.out, /1\. /);
    // Killed in the middle, whichever replica has it in hand: the other one goes on.
    let killed;
    watch.watchers.add((s) => {
      if (!killed && s.phase === 'ROLLBACK_PHASE_SHIFT' && s.step === 2 && s.stage === 'ROLLBACK_STAGE_OBSERVE') killed = holder(project).then((n) => project.crash('rollback', n).then(() => n));
    });
    const from = Date.now();
    const order = project.run('rollback', 'start', NAME, '--by', 'test', '--reason', 'v2 fails in a third of its work', '--follow');
    const end = await watch.wait('the end', (s) => ['DONE', 'ABORTED', 'REFUSED', 'HOLD'].includes(short(s.phase)), 150000);
    mark('rolled back', from);
    assert.equal(short(end.phase), 'DONE', watch.text());
    const said = await order;
    assert.equal(said.code, 0, said.out + said.err);
    const to = Date.now();
    await until('some more work', () => load.seen.filter((s) => s.at > to).length > RPS);
    await load.stop();

    // Every step had its share, and nothing failed but what v2 fails in.
    const job = watch.states.filter((s) => s.job_id === end.job_id);
    const rows = STEPS.map((percent, i) => {
      const first = job.find((s) => s.phase === 'ROLLBACK_PHASE_SHIFT' && s.stage === 'ROLLBACK_STAGE_OBSERVE' && s.step === i);
      const next = job.find((s) => s.epoch > first.epoch && (s.step !== i || s.stage !== 'ROLLBACK_STAGE_OBSERVE'));
      // HAProxy shares out in rounds as long as all weights together, and ends the round that it is in by the weights from before.
      const all = load.seen.filter((x) => x.at > first.seen + 100 && x.at < next.seen - 100);
      const part = all.slice(Math.min(ROUND, Math.ceil(0.65 * all.length)));
      const bad = part.filter((x) => x.version === V2 || x.error === 'status 500').length; // of v2 are all that fail so
      return { percent, from: first.seen, until: next.seen, requests: part.length, 'of v2': Math.round((1000 * bad) / part.length) / 10, failed: part.filter((x) => x.error).length };
    });
    console.table(rows, ['percent', 'requests', 'of v2', 'failed']);
    const during = load.seen.filter((s) => s.at >= from);
    const lost = during.filter((s) => s.error && s.error !== 'status 500');
    console.table([{ ...took, requests: during.length, 'failed of v2': during.filter((s) => s.error === 'status 500').length, 'failed otherwise': lost.length, 'failed while compose deployed': gap.length, killed: `rollback-${await killed}`, 'whole test': Date.now() - began }]);
    // Which version answered, request by request: tells a wrong share from a late one.
    const order_of = (i) => load.seen.filter((x) => x.at >= rows[i].from && x.at < rows[i].until).map((x) => (x.version === V2 || x.error === 'status 500' ? '2' : '1')).join('');
    assert.deepEqual(lost, [], 'no request fails but what v2 itself fails in');
    rows.forEach((r, i) => assert.ok(r.requests > 20 && Math.abs(r['of v2'] - r.percent) <= 12, `${JSON.stringify(r)}\n${order_of(i)}`));
    assert.deepEqual(load.seen.filter((s) => s.at > to && s.version !== V1), [], 'v1 alone serves in the end');
    assert.ok(await killed, 'a replica was killed on the way');

    // What has been learnt is whole; compose knows what runs; the file that names it changes nothing.
    const data = await saved(project, end.snapshot);
    assert.ok(data.same && data.is > data.was, `the snapshot is what stood there, and learning has gone on: ${JSON.stringify(data)}`);
    const id = await alone(project, V1);
    await project.ok(['up', '-d', '--no-build', '--no-deps', NAME], { env: version(V1) });
    assert.equal(await alone(project, V1), id, 'compose leaves it as it is');
    assert.equal((await running(project)).length, 1);
  } finally {
    await load.stop().catch(() => {});
  }
}));
