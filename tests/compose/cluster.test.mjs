// cluster.test.mjs - the cluster overlay under load: NATS leaders and Redis primaries are killed while outages come and go; nothing acknowledged is lost.
//
// REDOUBT_CLUSTER_KILLS says how many of each (default 2). The world around the suite is this process, on the address that the project's network has here.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { connect } from 'nats';
import { createClient } from 'redis';
import { Actor, accounts, baselineText } from '../e2e/lib/actor.mjs';
import { readStream } from '../e2e/lib/agent.mjs';
import { idsOf, Ledger } from '../e2e/lib/ledger.mjs';
import { agentNames, BACKUP, PRIMARY, settings, withWorld } from '../e2e/lib/scale-story.mjs';
import { AIRGAP, api, docker, noEngine, pause, settingsFile, tag, until, withProject } from './lib/compose.mjs';

const KILLS = Number(process.env.REDOUBT_CLUSTER_KILLS ?? 2);
const AGENTS = agentNames(3);
const NATS = ['nats', 'nats-2', 'nats-3'], REDIS = ['redis', 'redis-2', 'redis-3'];
const FOLLOW_MS = 90000;

const address = async (project, service, network) => (await project.inspect(service)).NetworkSettings.Networks[`${project.name}_${network}`]?.IPAddress;
const password = async (project, user, what) => (await project.volumeFile(`secret-${user === 'operator' ? 'cli' : user}`, what)).split('\n')[0];

// A client of all three servers, as the suite's own are.
async function wire(project, user) {
  const servers = [];
  for (const s of NATS) servers.push(`${await address(project, s, 'bus')}:4222`);
  const nc = await connect({ servers, user, pass: await password(project, user, 'nats'), inboxPrefix: user === 'operator' ? '_INBOX_cli' : `_INBOX_${user}`,
    maxReconnectAttempts: -1, reconnectTimeWait: 200, waitOnFirstConnect: true, ignoreClusterUpdates: true, pingInterval: 2000, maxPingOut: 2 });
  project.clients.push(() => nc.close());
  return nc;
}

// Writes to whichever Redis takes it, as often as it can; `last` = {at, service} of the last write that was acknowledged.
class Writer {
  constructor(project, pass) {
    Object.assign(this, { project, pass, stopped: false, last: null });
    this.task = this.run();
  }

  async run() {
    for (let i = 0; !this.stopped; i++) {
      const service = REDIS[i % REDIS.length];
      let client;
      try {
        const host = await address(this.project, service, 'store');
        if (!host) throw new Error('not running');
        client = createClient({ username: 'fallback', password: this.pass, socket: { host, port: 6379, reconnectStrategy: false, connectTimeout: 1000 } });
        client.on('error', () => {});
        await client.connect();
        for (let n = 0; !this.stopped; n++) {
          await Promise.race([client.set('redoubt:{fallback}:test', String(n)), pause(2000).then(() => { throw new Error('no answer'); })]);
          this.last = { at: Date.now(), service };
          await pause(50);
        }
      } catch { /* a replica, or away: the next one */ }
      await client?.disconnect().catch(() => {});
      await pause(50);
    }
  }
}

async function trails(project, dir) {
  const to = path.join(dir, 'audit');
  fs.rmSync(to, { recursive: true, force: true });
  await docker('cp', `${(await project.inspect('audit')).Id}:/var/lib/redoubt/audit`, to);
  return fs.readdirSync(to, { recursive: true }).filter((f) => f.endsWith('.seg') && !f.includes('set-aside')).map((f) => fs.readFileSync(path.join(to, f)));
}

const seconds = (ms) => (ms / 1000).toFixed(1);
const p99 = (list) => list.toSorted((a, b) => a - b)[Math.ceil(list.length * 0.99) - 1];

// Everything has its copies again.
async function whole(project, ops) {
  let what;
  await until(() => `three copies of every stream, in step; ${what}`, async () => {
    const jsm = await ops.jetstreamManager().catch(() => null);
    for await (const s of jsm?.streams.list() ?? []) {
      what = `${s.config.name}: ${JSON.stringify(s.cluster)}`;
      if (s.config.num_replicas !== 3 || s.cluster.replicas?.length !== 2 || !s.cluster.replicas.every((r) => r.current && !r.offline)) return false;
    }
    return jsm !== null;
  }, FOLLOW_MS);
  await until(() => `two replicas of Redis by every Sentinel; ${what}`, async () => {
    for (const s of ['sentinel-1', 'sentinel-2', 'sentinel-3']) {
      what = (await project.exec(s, ['sh', '-c', 'redis-cli -p 26379 --no-auth-warning --user sentinel --pass $(cat /run/secrets/redoubt/sentinel) info sentinel'])).out;
      if (!/status=ok.*slaves=2,sentinels=3/.test(what)) return false;
    }
    return true;
  }, FOLLOW_MS);
}

async function story(project, w, dir) {
  const nc = await wire(project, 'agent'), ops = await wire(project, 'operator');
  const ledger = new Ledger(ops, { says: { nc: await wire(project, 'health'), service: 'health' } });
  const writer = new Writer(project, await password(project, 'fallback', 'redis'));
  const agents = AGENTS.map((name) => new Actor(nc, name, { [PRIMARY]: w.primary.url, [BACKUP]: w.backup.url }, { heartbeat_ms: 500, call_ms: 250, pace_ms: 60 }));
  const where = () => JSON.stringify(agents.map((a) => [a.name, a.state?.posture, a.state?.llm_target, a.state?.epoch, a.last?.decision, a.last?.detail]));
  const on = (target) => until(() => `all agents on ${target}; ${where()}`, () => agents.every((a) => a.state?.llm_target === target), FOLLOW_MS);
  const took = { nats: [], redis: [], agents: [] };
  for (const a of agents) a.start();
  ledger.start();
  try {
    await until(() => `all agents to act; ${where()}`, () => agents.every((a) => a.accepted.size > 0), FOLLOW_MS);
    await until('a first write', () => writer.last, FOLLOW_MS);
    await whole(project, ops);
    for (let i = 0; i < 2 * KILLS; i++) {
      const kind = i % 2 ? 'redis' : 'nats';
      const victim = kind === 'redis' ? writer.last.service : await until('a leader of the audit stream', async () => (await ops.jetstreamManager().then((m) => m.streams.info('REDOUBT_AUDIT'), () => null))?.cluster?.leader, FOLLOW_MS);
      const at = Date.now();
      await w.primary.close(); // an outage in the middle of it
      await project.kill(victim);
      const killed = Date.now();
      if (kind === 'redis') {
        await until('a write to another primary', () => writer.last.at > killed && writer.last.service !== victim, FOLLOW_MS);
        took.redis.push(Date.now() - killed);
      } else {
        const had = [ledger.records.size, ledger.alerts.size];
        await until('records and alerts to be acknowledged', () => ledger.records.size > had[0] + 1 && ledger.alerts.size > had[1] + 1, FOLLOW_MS);
        took.nats.push(Date.now() - killed);
      }
      await on(BACKUP);
      took.agents.push(Date.now() - at);
      await w.primary.open();
      await on(PRIMARY);
      const had = agents.map((a) => a.accepted.size);
      await until(() => `all agents to act on; ${where()}`, () => agents.every((a, k) => a.accepted.size > had[k]), FOLLOW_MS);
      await project.start(victim);
      await project.healthy([victim]);
      await whole(project, ops);
      if (kind === 'redis') assert.notEqual(writer.last.service, victim, 'who comes back is a replica');
    }

    // The end: everything that was acknowledged is there.
    for (const a of agents) a.acting = false;
    await ledger.stop();
    const open = () => agents.flatMap((a) => [...a.unknown].map((u) => `${a.name}/${u}`));
    await until(() => `every action to be accounted for; ${accounts(agents, w.backend).slice(0, 5)}; open: ${open()}; ${where()}`, () => open().length === 0 && accounts(agents, w.backend).length === 0, FOLLOW_MS);
    await until(() => `all agents to be well; ${where()}`, () => agents.every((a) => a.state.posture === 'POSTURE_NORMAL' && a.state.llm_target === PRIMARY), FOLLOW_MS);
    let lost, missing;
    await until(() => `every alert to be told; not yet: ${lost?.slice(0, 5)} (${lost?.length})`, () => (lost = ledger.people(w.told()).lost).length === 0, FOLLOW_MS);
    await until(() => `every record in the trail; missing: ${missing?.slice(0, 5)} (${missing?.length})`, async () => {
      const have = new Set((await trails(project, dir)).flatMap((bytes) => idsOf(bytes)));
      return (missing = [...ledger.records].filter((id) => !have.has(id))).length === 0;
    }, FOLLOW_MS);
    assert.deepEqual((await readStream(ops, 'REDOUBT_DEAD')).map((m) => m.subject), [], 'nothing became a dead letter');
    for (const [what, list] of [['NATS leader killed: next acknowledged record and alert', took.nats], ['Redis primary killed: next acknowledged write', took.redis], ['outage at that moment: agents moved', took.agents]])
      console.log(`| ${what} | p99 ${seconds(p99(list))} s of ${list.map(seconds).join(', ')} |`);
    console.log(`| cluster: acknowledged and lost | ${w.backend.executed.size} actions, ${ledger.alerts.size} alerts, ${ledger.records.size} records; lost 0 |`);
    console.log(`| cluster: epochs said twice (Redis replicates without waiting) | ${ledger.doubles().length} |`);
  } finally {
    writer.stopped = ledger.stopped = true;
    await Promise.all([writer.task, ...agents.map((a) => a.stop())]);
  }
}

test(`${KILLS} NATS leaders and ${KILLS} Redis primaries are killed under load`, { skip: noEngine, timeout: 1200000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-cluster-'));
  const at = (name) => path.join(dir, name);
  try {
    fs.chmodSync(dir, 0o755);
    fs.writeFileSync(at('baseline.yaml'), baselineText(), { mode: 0o644 });
    fs.writeFileSync(at('redoubt.yaml'), '', { mode: 0o644 });
    await docker('run', '--rm', '--network', 'none', '-u', '0', '--entrypoint', 'redoubt', '-v', `${dir}:/w`, `redoubt/cli:${tag}`, 'baseline', 'sign', '/w/baseline.yaml', '--by', 'e2e');
    fs.chmodSync(at('baseline.yaml.signoff'), 0o644);
    const env = { REDOUBT_BASELINE: at('baseline.yaml'), NATS_IMAGE: `redoubt/nats:${tag}`, REDIS_IMAGE: `redoubt/redis:${tag}` };
    await withProject('cluster', { files: [...AIRGAP, 'deploy/compose/cluster.yml'], config: at('redoubt.yaml'), env }, async (project) => {
      await project.up(NATS, { limit_ms: 180000 }); // the network first: its address here is where the world is found
      const network = await api('GET', `/networks/${project.name}_bus`);
      await withWorld(network.IPAM.Config[0].Gateway, async (w) => {
        settingsFile(dir, `tilt_hold: 1s\n${settings(w, AGENTS, { baseline: '"${REDOUBT_BASELINE}"', record: '/var/lib/redoubt/alert/alerts.jsonl' })}`);
        await project.up([], { limit_ms: 300000 });
        await story(project, w, dir);
      });
    });
  } finally {
    if (!process.env.KEEP) fs.rmSync(dir, { recursive: true, force: true });
  }
});
