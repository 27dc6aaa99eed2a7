// recovery.test.mjs - the whole site is lost but its backups: a new one comes from them, and is what the old one was. Timed.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { decode, encode, top } from './lib/contract.mjs';
import { SERVICES, withStack } from './lib/stack.mjs';
import { backend, llm } from './lib/world.mjs';
import { until } from './lib/wait.mjs';

const run = promisify(execFile);
const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');
const FROZEN = 'frozen';
const FALLEN = 'fallen';
const LIMIT_MS = 10 * 60 * 1000; // the mission's

const settings = (w, dir) => `targets:
  - { name: llm.a, kind: llm, probe: { type: llm, url: "${w.llm.url}", model: m, interval: 500ms, fast_interval: 200ms, timeout: 1s }, breaker: { consecutive: 3, open: 1s, ramp_step: 200ms } }
  - { name: backend.a, kind: backend, probe: { type: http, url: "${w.backend.url}/health", interval: 500ms, fast_interval: 200ms, timeout: 1s }, breaker: { consecutive: 3, open: 1s, ramp_step: 200ms } }
agents:
${[FROZEN, FALLEN].map((name) => `  - { name: ${name}, chain: [ { target: llm.a, model: m } ], backend: backend.a, heartbeat: 300ms, ack: 500ms, backend_step: 300ms, restore_hold: 300ms, recovery: { step: 300ms } }
`).join('')}alert:
  channels:
    - { name: record, type: file, path: ${path.join(dir, 'alerts.jsonl')} }
continuity:
  phases: { settle: 1s, validate: 1s }
  repository: { repository: ${path.join(dir, 'outside', 'repository')}, password_file: ${path.join(dir, 'outside', 'password')} }
  backups:
    - { name: settings, kind: config, every: 1h }
    - { name: trail, kind: audit, every: 1h }
    - { name: weights, kind: learning, path: [${path.join(dir, 'learning')}], every: 1h }
    - { name: streams, kind: nats, every: 1h }
    - { name: shared, kind: redis, every: 1h }
`;
const SOURCES = ['settings', 'weights', 'streams', 'shared', 'trail']; // the trail last: it must reach as far as the bus says that it does
const ALL = [...SERVICES, 'continuity'];

// The same evidence on a new host's clock: a moment earlier is possible (the clock runs long), later never.
const sinceThen = (is, was) => assert.ok(is <= was && is > was - 5000, `${was} has become ${is}`);

// Names, kinds and contents of a directory.
function tree(dir) {
  const h = createHash('sha256');
  for (const name of fs.readdirSync(dir, { recursive: true }).sort()) {
    const p = path.join(dir, name);
    h.update(`${name}\0`);
    if (fs.statSync(p).isFile()) h.update(fs.readFileSync(p));
  }
  return h.digest('hex');
}

class Site {
  constructor(stack, w) {
    Object.assign(this, { stack, w });
    this.learning = path.join(stack.dir, 'learning');
    this.data = path.join(stack.dir, 'data');
    this.outside = path.join(stack.dir, 'outside'); // what a real site keeps elsewhere
    this.repository = path.join(this.outside, 'repository');
    this.password = path.join(this.outside, 'password');
    this.history = path.join(this.data, 'continuity', 'config');
    this.trail = path.join(this.data, 'audit');
  }

  git(...args) {
    return execFileSync('git', [`--git-dir=${this.history}`, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  }

  // It is made while the service runs.
  accepted() {
    try {
      return this.git('rev-parse', '--verify', '--quiet', 'refs/heads/main').trim() !== '';
    } catch {
      return false;
    }
  }

  // Not synchronously: the LLM and the backend of this test must answer meanwhile.
  restic(...args) {
    return run('restic', ['-r', this.repository, '--password-file', this.password, '--no-cache', '--quiet', ...args]);
  }

  async save(source, kind, dir) {
    await this.restic('backup', '--tag', 'redoubt', '--tag', `source=${source}`, '--tag', `kind=${kind}`, '--tag', `point=${Date.now()}`, dir);
  }

  async json(...args) {
    const r = await this.stack.cli([...args, '--json', '-c', this.stack.config]);
    assert.equal(r.code, 0, `${args.join(' ')}: ${r.out}${r.err}`);
    return JSON.parse(r.out);
  }

  // Each source is saved anew, and what came back is what was saved.
  async backUp() {
    for (const source of SOURCES) {
      const since = Date.now();
      let s;
      await until(() => `a copy of ${source}: ${JSON.stringify(s)}`, async () => {
        if ((await this.stack.cli(['continuity', 'backup', source, '--by', 'e2e', '--reason', 'test', '-c', this.stack.config])).code > 0) return false;
        return until('it', async () => {
          s = (await this.json('continuity', 'status')).backups.find((x) => x.source === source);
          return s && s.verifiedPointUnixMs >= since;
        }, 20000);
      }, 60000);
    }
  }

  async lose() {
    for (const name of this.stack.procs.keys()) if (this.stack.running(name)) await this.stack.kill(name);
    for (const close of this.stack.clients.splice(0)) await Promise.resolve(close()).catch(() => {});
    for (const d of ['nats', 'redis', 'data', 'learning', 'redoubt.yaml']) fs.rmSync(path.join(this.stack.dir, d), { recursive: true });
  }

  recover(...args) {
    return this.stack.cli(['recover', 'run', '--repository', this.repository, '--password-file', this.password, '--config', this.stack.config, '--data-dir', this.data, '--by', 'e2e', '--reason', 'the site burnt down', '--json', ...args]);
  }

  async state(agent) {
    const r = await this.nc.request('redoubt.v1.cmd.fallback.state', encode('AgentCommand', { agent }), { timeout: 3000 });
    return decode('AgentState', decode('CommandReply', r.data).payload);
  }

  async posture(agent, posture) {
    let s;
    await until(() => `${agent} to be ${posture}: ${JSON.stringify(s)}`, async () => {
      s = await this.state(agent).catch(() => null);
      return s && s.posture === posture && Number(s.acked_epoch) >= Number(s.epoch);
    }, 60000);
    return s;
  }

  async open() {
    this.nc = await this.stack.nats('test');
    for (const name of [FROZEN, FALLEN]) {
      this.stack.define(name, path.join(bin, 'redoubt'), ['sim', 'agent', name, '--rate', '5', '-c', this.stack.config]);
      this.stack.run(name);
    }
  }

  trails() {
    return fs.readdirSync(this.trail).filter((d) => fs.existsSync(path.join(this.trail, d, 'checkpoint')));
  }

  async records() {
    const r = await this.stack.cli(['audit', 'export', '-c', this.stack.config]);
    assert.equal(r.code, 0, r.err);
    return r.out.trim().split('\n').map((l) => JSON.parse(l).record).filter(Boolean);
  }
}

async function withSite(body) {
  const w = { llm: await llm(), backend: await backend() };
  const prepare = (stack) => {
    const site = new Site(stack, w);
    fs.mkdirSync(site.outside);
    fs.writeFileSync(site.password, 'a password that is kept elsewhere\n', { mode: 0o600 });
    execFileSync('restic', ['-r', site.repository, '--password-file', site.password, '--no-cache', '--quiet', 'init']);
    fs.mkdirSync(path.join(site.learning, 'model'), { recursive: true });
    for (let i = 1; i <= 20; i++) fs.writeFileSync(path.join(site.learning, 'model', `weights-${i}`), `learned ${i}\n`.repeat(1000 * i));
    return settings(w, stack.dir);
  };
  try {
    await withStack('recovery', prepare, (stack) => body(new Site(stack, w)), { services: ALL });
  } finally {
    for (const s of Object.values(w)) await s.close();
  }
}

test('from nothing but its backups', { timeout: 300000 }, () => withSite(async (site) => {
  const { stack, w } = site;
  await site.open();
  await site.posture(FROZEN, 'POSTURE_NORMAL');
  await site.posture(FALLEN, 'POSTURE_NORMAL');
  // One agent is frozen by a person, and both have lost their only LLM: incidents are open, their clocks run.
  assert.equal((await stack.cli(['freeze', FROZEN, '--by', 'e2e', '--reason', 'odd decisions'])).code, 0);
  w.llm.mode = '503';
  const before = { frozen: await site.posture(FROZEN, 'POSTURE_FROZEN'), fallen: await site.posture(FALLEN, 'POSTURE_SECURITY_FALLBACK') };
  // Of what lasts; on a busy machine a probe that was late may have opened another, which is over soon.
  const lasting = (i) => i.key === 'llm.a' || i.key === `agent.${FROZEN}`;
  let found;
  await until(() => `two incidents: ${JSON.stringify(found)}`, async () => (found = (await site.json('incident', 'list')).incidents.filter(lasting)).length === 2, 30000);
  await until('a history', () => site.accepted(), 30000);
  const open = new Map();
  for (const { id } of found) open.set(id, await site.json('incident', 'show', id));
  const was = { learning: tree(site.learning), config: fs.readFileSync(stack.config, 'utf8'), log: site.git('log', '--format=%H %s', 'main') };
  await site.backUp();
  const records = (await site.records()).filter((x) => x.at_unix_ms < Date.now() - 60000 || x.service === 'fallback');
  await site.lose();

  // A new machine: empty servers, and what was kept outside.
  const began = Date.now();
  for (const d of ['nats', 'redis']) fs.mkdirSync(path.join(stack.dir, d));
  stack.run('nats');
  stack.run('redis');
  await stack.ready();
  const list = await stack.cli(['recover', 'list', '--repository', site.repository, '--password-file', site.password, '--json']);
  assert.equal(list.code, 0, list.err);
  assert.deepEqual(JSON.parse(list.out).sources.map((s) => s.kind), ['config', 'audit', 'learning', 'nats', 'redis']);
  const r = await site.recover();
  assert.equal(r.code, 0, r.out + r.err);
  const { steps } = JSON.parse(r.out);
  assert.deepEqual(steps.map((s) => [s.kind, s.result]), ['config', 'audit', 'learning', 'nats', 'redis'].map((k) => [k, 'restored']), r.out);
  for (const s of steps) assert.doesNotMatch(s.detail, /NOT the newest/, `${s.source}: ${s.detail}`);
  assert.equal(r.err, '');

  // Everything is as it was, and nothing of the way there is left.
  assert.equal(tree(site.learning), was.learning);
  assert.equal(fs.readFileSync(stack.config, 'utf8'), was.config);
  assert.equal(site.git('log', '--format=%H %s', 'main'), was.log);
  const chains = site.trails();
  for (const d of chains) {
    const v = await stack.cli(['audit', 'verify', path.join(site.trail, d)]);
    assert.equal(v.code, 0, v.out + v.err);
  }
  assert.deepEqual(fs.readdirSync(stack.dir, { recursive: true }).filter((n) => n.includes('.redoubt-recover')), []);

  // Again: nothing is overwritten.
  const again = await site.recover();
  assert.equal(again.code, 4, again.out + again.err);
  for (const s of JSON.parse(again.out).steps) assert.equal(s.result, 'refused', `${s.source}: ${s.detail}`);
  assert.equal(tree(site.learning), was.learning);

  for (const s of ALL) stack.run(s);
  await site.open();
  const after = { frozen: await site.posture(FROZEN, 'POSTURE_FROZEN'), fallen: await site.posture(FALLEN, 'POSTURE_SECURITY_FALLBACK') };
  for (const k of ['frozen', 'fallen']) assert.ok(Number(after[k].epoch) >= Number(before[k].epoch), `${k}: its epoch went back`);
  assert.equal(after.frozen.frozen_by, before.frozen.frozen_by);
  // The same incidents, their clocks since the same evidence.
  await until('the incidents', async () => {
    const l = await stack.cli(['incident', 'list', '--json', '-c', stack.config]);
    return l.code === 0 && [...open.keys()].every((id) => JSON.parse(l.out).incidents.some((i) => i.id === id));
  }, 60000);
  const took = Date.now() - began;
  for (const [id, old] of open) {
    const now = await site.json('incident', 'show', id);
    sinceThen(now.evidenceUnixMs, old.evidenceUnixMs);
    for (const c of old.clocks) {
      const same = now.clocks.find((x) => x.objective === c.objective);
      assert.ok(same, `${id}: its clock ${c.objective} is gone`);
      sinceThen(same.startedUnixMs, c.startedUnixMs);
      assert.equal(same.stoppedUnixMs, 0);
      assert.ok(same.elapsedMs > c.elapsedMs, `${id}: ${c.objective} was shortened from ${c.elapsedMs} to ${same.elapsedMs}`);
    }
  }

  // The trail goes on where it was, with a record of this.
  let now;
  await until('the record of the recovery', async () => (now = await site.records()).some((x) => x.action === 'recover.run'), 30000);
  assert.equal(now.find((x) => x.action === 'recover.run').actor, 'e2e');
  const ids = new Set(now.map((x) => x.id));
  assert.deepEqual(records.filter((x) => !ids.has(x.id)).map((x) => x.action), [], 'records that were in the trail are not any more');
  assert.deepEqual(site.trails(), chains, 'the trail was set aside');
  for (const d of chains) assert.equal((await stack.cli(['audit', 'verify', '--bus', path.join(site.trail, d), '-c', stack.config])).code, 0);

  // It works: the person lets it go, the LLM is back.
  w.llm.mode = 'ok';
  assert.equal((await stack.cli(['unfreeze', FROZEN, '--by', 'e2e', '--reason', 'looked into', '--without-selftest'])).code, 0);
  await site.posture(FROZEN, 'POSTURE_NORMAL');
  await site.posture(FALLEN, 'POSTURE_NORMAL');

  assert.ok(took < LIMIT_MS, `took ${took} ms`);
  console.log(`full-site recovery: ${(took / 1000).toFixed(1)} s from empty servers to agents in their postures and incidents with their clocks (${steps.map((s) => `${s.kind} ${s.tookMs} ms`).join(', ')})`);
}));

test('a step that fails says so, and the rest goes on', { timeout: 300000 }, () => withSite(async (site) => {
  const { stack } = site;
  await until('a trail', () => fs.existsSync(site.trail) && site.trails().length > 0, 30000);
  await until('a history', () => site.accepted(), 30000);
  await site.backUp();
  // A newer copy of the trail that is damaged, made by hand where it lies: one byte is another.
  const newest = fs.readdirSync(site.trail, { recursive: true }).map((n) => path.join(site.trail, n)).filter((p) => p.endsWith('.seg')).sort((a, b) => fs.statSync(b).size - fs.statSync(a).size)[0];
  const bad = fs.readFileSync(newest);
  bad[bad.length >> 1] ^= 1;
  for (const s of ALL) await stack.kill(s);
  fs.writeFileSync(newest, bad);
  await site.save('trail', 'audit', site.trail);
  await site.lose();
  fs.mkdirSync(site.learning); // somebody has put something there already
  fs.writeFileSync(path.join(site.learning, 'weights'), 'mine\n');

  // Neither NATS nor Redis runs.
  const r = await site.recover();
  assert.notEqual(r.code, 0);
  const by = Object.fromEntries(JSON.parse(r.out).steps.map((s) => [s.kind, s]));
  assert.equal(by.config.result, 'restored', by.config.detail);
  assert.equal(by.audit.result, 'restored', by.audit.detail);
  assert.match(by.audit.detail, /NOT the newest copy: the trail is not whole/);
  assert.equal(by.learning.result, 'refused');
  assert.match(by.learning.detail, /--force/);
  assert.equal(by.nats.result, 'FAILED');
  assert.match(by.nats.detail, /NATS/);
  assert.equal(by.redis.result, 'FAILED');
  assert.match(by.redis.detail, /no Redis answers/);
  assert.equal(fs.readFileSync(path.join(site.learning, 'weights'), 'utf8'), 'mine\n');

  const forced = await site.recover('--from', 'learning', '--force');
  assert.equal(forced.code, 0, forced.out + forced.err);
  assert.equal(fs.readdirSync(path.join(site.learning, 'model')).length, 20);
  const aside = fs.readdirSync(stack.dir).find((n) => n.startsWith('learning.before-'));
  assert.equal(fs.readFileSync(path.join(stack.dir, aside, 'weights'), 'utf8'), 'mine\n');

  const elsewhere = path.join(stack.dir, 'elsewhere');
  assert.equal((await site.recover('--from', 'weights', '--learning-to', elsewhere)).code, 0);
  assert.equal(tree(path.join(elsewhere, 'weights')), tree(site.learning));
  assert.equal((await site.recover('--from', 'nobody')).code, 2);
  fs.writeFileSync(site.password, 'another\n');
  const wrong = await site.recover();
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /password/);
}));
