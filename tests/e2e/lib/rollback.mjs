// rollback.mjs - one deployment and all that moves it: an agent's containers, HAProxy, learning data, a private suite, load, and eyes on everything.
import { execFile, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { decode, encode, top } from './contract.mjs';
import { Stack, freePort } from './stack.mjs';
import { pause, slow, until } from './wait.mjs';

const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');
export const SIDES = [['a0', 'a1'], ['b0', 'b1']];

// ---- load: new connections, so that weights count ----

export class Load {
  constructor(port, every_ms) {
    Object.assign(this, { port, every_ms, seen: [], open: 0, agent: new http.Agent({ keepAlive: false }) });
  }

  start() {
    this.timer = setInterval(() => this.one(), this.every_ms);
  }

  one() {
    const at = Date.now();
    this.open++;
    const end = (version, error) => {
      this.open--;
      this.seen.push({ at, took: Date.now() - at, version, error });
    };
    const r = http.request({ host: '127.0.0.1', port: this.port, method: 'POST', path: '/work', agent: this.agent, timeout: 15000 }, (a) => {
      let text = '';
      a.on('data', (d) => { text += d; });
      a.on('error', (e) => end(null, e.message));
      a.on('end', () => {
        if (a.statusCode !== 200) return end(null, `status ${a.statusCode}`);
        try { return end(JSON.parse(text).version); } catch { return end(null, `no JSON: ${text.slice(0, 60)}`); }
      });
    });
    r.on('timeout', () => r.destroy(new Error('time-out')));
    r.on('error', (e) => end(null, e.message));
    r.end();
  }

  async stop() {
    clearInterval(this.timer);
    await until('requests in hand to end', () => this.open === 0);
    this.agent.destroy();
  }

  // Failures and shares of what was asked between two points in time.
  between(from, to) {
    const all = this.seen.filter((s) => s.at >= from && s.at < to);
    const versions = {};
    for (const s of all) versions[s.version ?? 'failed'] = (versions[s.version ?? 'failed'] ?? 0) + 1;
    return { n: all.length, versions, share: (v) => (100 * (versions[v] ?? 0)) / Math.max(1, all.length) };
  }

  failures() {
    return this.seen.filter((s) => s.error);
  }
}

// ---- where the agent runs: containers of an engine, or plain processes behind the exec executor ----

export class Containers {
  constructor(engine, name, learn, health_ms) {
    Object.assign(this, { engine, name, learn, health_ms });
  }

  settings() {
    return `executor: docker
      docker: { socket: ${this.engine.socket}, project: ${this.name}, service: agent, port: 8080, network: town, stop: 5s, ready: ${60 * slow}s }`;
  }

  // As compose makes them; what was deployed before is taken away.
  async deploy(tag, instances) {
    for (const c of await this.all()) await this.remove(c.id);
    for (let i = 1; i <= instances; i++)
      await this.engine.run(`${this.name}-agent-${i}`, tag, { binds: [`${this.learn}:/data`], health_ms: this.health_ms,
        labels: { 'com.docker.compose.project': this.name, 'com.docker.compose.service': 'agent', 'com.docker.compose.container-number': String(i) } });
  }

  async all() {
    const found = await this.engine.list({ label: [`com.docker.compose.project=${this.name}`] });
    return found.map((c) => ({ id: c.Id, tag: this.engine.tags.get(c.ImageID), running: c.State === 'running', healthy: this.health_ms ? /\(healthy\)/.test(c.Status) : c.State === 'running',
      address: `${Object.values(c.NetworkSettings.Networks)[0]?.IPAddress}:8080` }));
  }

  kill(id) {
    return this.engine.kill(id);
  }

  remove(id) {
    return this.engine.remove(id);
  }

  async close() {
    for (const c of await this.all().catch(() => [])) await this.remove(c.id).catch(() => {});
  }
}

const exec = promisify(execFile);
export const AGENT = path.join(path.dirname(fileURLToPath(import.meta.url)), 'exec-agent');

export class Processes {
  constructor(dir, learn) {
    this.dir = path.join(dir, 'agents');
    this.args = [this.dir, path.join(bin, 'redoubt'), learn];
    fs.mkdirSync(this.dir);
    // Ends them also if this process is killed: its end of the pipe closes then.
    this.watcher = spawn('bash', ['-c', 'read -r _; for p in "$0"/*/pid; do kill -9 "$(<"$p")"; done', this.dir], { stdio: ['pipe', 'ignore', 'ignore'] });
  }

  settings() {
    const call = (verb, more = '') => `${verb}: ["${AGENT}", ${verb}, ${this.args.map((a) => `"${a}"`).join(', ')}${more}]`;
    const which = ', "{{version}}", "{{side}}", "{{count}}", "{{job}}"';
    return `executor: exec
      exec: { ${call('view')}, ${['up', 'stop', 'start', 'remove'].map((v) => call(v, which)).join(', ')} }`;
  }

  async deploy(tag, instances) {
    for (const old of new Set((await this.all()).map((c) => c.tag))) await exec(AGENT, ['remove', ...this.args, old]);
    await exec(AGENT, ['up', ...this.args, tag, '0', String(instances), '']);
  }

  // Read from its files: cheap enough to be looked at all the time.
  async all() {
    const read = (i, name) => { try { return fs.readFileSync(path.join(this.dir, i, name), 'utf8').trim(); } catch { return ''; } };
    return fs.readdirSync(this.dir).filter((i) => read(i, 'version')).map((i) => {
      let stat = '';
      try { stat = fs.readFileSync(`/proc/${read(i, 'pid')}/stat`, 'utf8').replace(/.*\) /s, ''); } catch { /* it has ended */ }
      const running = stat !== '' && stat[0] !== 'Z';
      return { id: i, tag: read(i, 'version'), running, healthy: running, address: read(i, 'out').match(/listening (\S+)/)?.[1] };
    });
  }

  async kill(id) {
    process.kill(Number(fs.readFileSync(path.join(this.dir, id, 'pid'), 'utf8')), 'SIGKILL');
  }

  async close() {
    this.watcher.stdin.end();
    await new Promise((done) => this.watcher.once('exit', done));
  }
}

// ---- the town ----

export class Town extends Stack {
  // `engine` null: plain processes.
  constructor(engine, name, { instances = 1, step_ms = 500, observe_ms = 200, rps = 40, health_ms = 0 } = {}) {
    super(name);
    Object.assign(this, { engine, instances, step_ms, observe_ms, every_ms: 1000 / rps });
    this.learn = path.join(this.dir, 'learn');
    fs.mkdirSync(this.learn);
    this.place = engine ? new Containers(engine, path.basename(this.dir), this.learn, health_ms) : new Processes(this.dir, this.learn);
    this.states = []; // every RollbackChanged, with when it was seen
    this.watchers = new Set();
    this.low = []; // moments with less capacity than needed
    this.excused = []; // [from, to]: an instance was just killed
  }

  settings() {
    const quoted = (list) => `[${list.join(', ')}]`;
    return `rollback:
  observe: ${this.observe_ms}ms
  lease_ttl: 1s
  member_ttl: 1s
  exec_allowed: ["${AGENT}"]
  deployments:
    - name: mcp
      ${this.place.settings()}
      traffic:
        type: haproxy
        address: unix://${this.sock}
        backend: agents
        side_0: ${quoted(SIDES[0])}
        side_1: ${quoted(SIDES[1])}
      checks:
        - { name: judgement, type: known, class: security, url: "http://{{address}}/decide", body: '{"type": "port_scan"}', expect_json: [{ path: $.verdict, equals: block }] }
        - { name: alive, type: http, url: "http://{{address}}/health" }
      data:
        repository: ${path.join(this.dir, 'restic')}
        password_file: ${path.join(this.dir, 'password')}
        path: ["${this.learn}"]
        pause_url: "http://{{address}}/pause"
        resume_url: "http://{{address}}/resume"
      step: ${this.step_ms}ms
      check_every: ${Math.max(50, Math.floor(this.step_ms / 3))}ms
      capacity_wait: ${60 * slow}s
      drain: 500ms
      watch: 1s
      settle: 300ms
`;
  }

  async open() {
    this.sock = path.join(this.dir, 'haproxy.sock');
    this.front = await freePort();
    fs.mkdirSync(path.join(this.dir, 'restic'));
    fs.writeFileSync(path.join(this.dir, 'password'), 'sesame\n', { mode: 0o600 });
    const env = { ...process.env, RESTIC_REPOSITORY: path.join(this.dir, 'restic'), RESTIC_PASSWORD_FILE: path.join(this.dir, 'password') };
    this.restic = (...args) => execFileSync('restic', ['--no-cache', '-q', ...args], { env, encoding: 'utf8' });
    this.restic('init');
    this.configure([...SIDES[0], ...SIDES[1]].map((name) => ({ name, address: '127.0.0.1:1', weight: name === 'a0' ? 100 : 0, off: name !== 'a0' })));
    await this.start(this.settings(), { services: [] });
    this.define('haproxy', 'haproxy', ['-db', '-f', path.join(this.dir, 'haproxy.cfg')]);
    for (const i of [1, 2]) this.define(`rollback-${i}`, path.join(bin, 'redoubt-rollback'), ['-c', this.config]);
    await this.deploy('v1');
    this.run('haproxy');
    await this.point();
    for (const i of [1, 2]) this.run(`rollback-${i}`);
    this.nc = await this.nats();
    this.follow();
    this.load = new Load(this.front, this.every_ms);
    await this.verified('v1');
    await this.deploy('v2');
    await this.point();
    this.load.start();
    this.watch();
    await this.verified('v2');
  }

  async deploy(tag) {
    await this.place.deploy(tag, this.instances);
    await until(`${tag} to be healthy`, async () => (await this.place.all()).every((c) => c.healthy), 60000);
  }

  // ---- HAProxy ----

  haproxy(line) {
    return new Promise((done, failed) => {
      const s = net.connect(this.sock, () => s.write(`${line}\n`));
      let text = '';
      s.on('data', (d) => { text += d; });
      s.on('error', failed);
      s.on('end', () => done(text));
    });
  }

  configure(servers) {
    fs.writeFileSync(path.join(this.dir, 'haproxy.cfg'), `global
  stats socket ${this.sock} mode 600 level admin
defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 10s
  timeout queue 5s
  retries 3
  option redispatch 1
  retry-on conn-failure
frontend work
  bind 127.0.0.1:${this.front}
  default_backend agents
backend agents
  balance roundrobin
${servers.map((s) => `  server ${s.name} ${s.address} weight ${s.weight} check inter 200ms${s.off ? ' disabled' : ''}\n`).join('')}`);
  }

  // By hand, as whoever deploys does it: the servers of side 0 have the containers' addresses.
  async point() {
    await until('HAProxy to listen', () => this.haproxy('show version').catch(() => null));
    const found = await this.place.all();
    for (const [i, name] of SIDES[0].entries()) {
      const line = found[i] ? [`set server agents/${name} addr ${found[i].address.replace(':', ' port ')}`, `set server agents/${name} state ready`, `set weight agents/${name} 100`]
        : [`set server agents/${name} state maint`];
      await this.haproxy(line.join(';'));
    }
    await until('HAProxy to take them for up', async () => (await this.servers()).every((v) => v.off || v.up));
  }

  async servers() {
    const text = await this.haproxy('show servers state agents');
    const lines = text.split('\n').filter((l) => /^\d+ agents/.test(l)).map((l) => l.split(' '));
    return lines.map((f) => ({ name: f[3], address: `${f[4]}:${f[18]}`, up: f[5] !== '0', off: (Number(f[6]) & 0x3b) !== 0, weight: Number(f[7]), side: f[3].startsWith('a') ? 0 : 1 }));
  }

  // HAProxy forgets at a restart what its file does not say: whoever supervises it keeps the file as things stand. (A state file restores weights, and
  // addresses only of servers that are given by name.)
  async restartHaproxy(dead_ms = 300) {
    this.configure(await this.servers());
    await this.kill('haproxy');
    await pause(dead_ms);
    this.run('haproxy');
    await until('HAProxy to listen', () => this.haproxy('show version').catch(() => null));
  }

  // As nobody has looked after the file: what it said in the beginning, where side 0 has everything and its addresses are nobody's.
  async forgetfulHaproxy() {
    this.configure([...SIDES[0], ...SIDES[1]].map((name) => ({ name, address: '127.0.0.1:1', weight: name === 'a0' ? 100 : 0, off: name !== 'a0' })));
    await this.kill('haproxy');
    this.run('haproxy');
    await until('HAProxy to listen', () => this.haproxy('show version').catch(() => null));
  }

  // The replica that has moved the job last.
  holder() {
    const last = (i) => Math.max(0, ...[...this.log(`rollback-${i}`).matchAll(/^ts=(\S+) .*event=(?:rollback|"an act[^"]*") deployment=mcp/gm)].map((m) => Date.parse(m[1])));
    return last(1) >= last(2) ? 'rollback-1' : 'rollback-2';
  }

  // kill -9, and back after dead_ms; what was killed in the target stays dead.
  async strike(victim, target, dead_ms = 400) {
    if (victim === 'haproxy') return this.restartHaproxy(dead_ms);
    if (victim === 'target') {
      for (const c of await this.place.all()) if (c.tag === target && c.running) await this.place.kill(c.id).catch(() => {});
      return undefined;
    }
    const name = victim === 'service' ? this.holder() : victim;
    await this.kill(name);
    await pause(dead_ms);
    this.run(name);
    return undefined;
  }

  // ---- eyes ----

  follow() {
    const take = (bytes) => {
      const s = decode('RollbackChanged', bytes);
      if (this.states.length && s.epoch <= this.states.at(-1).epoch) return;
      this.states.push({ ...s, seen: Date.now() });
      for (const w of [...this.watchers]) w(this.states.at(-1));
    };
    const sub = this.nc.subscribe('redoubt.v1.rollback.mcp');
    (async () => { for await (const m of sub) take(m.data); })();
    const last = async () => {
      try {
        const jsm = await this.nc.jetstreamManager({ timeout: 2000 });
        take((await jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: 'redoubt.v1.rollback.mcp' })).data);
      } catch { /* there is none yet, or no server: the next look */ }
    };
    this.poll = setInterval(() => { if (!this.nc.isClosed()) last(); }, 500);
  }

  state() {
    return this.states.at(-1);
  }

  // The first state from now on that satisfies; also one that was just seen.
  wait(what, good, limit_ms = 60000) {
    return until(() => `${what}; it is ${this.text()}`, () => (this.state() && good(this.state()) ? this.state() : null), limit_ms);
  }

  text(s = this.state()) {
    if (!s) return 'nothing yet';
    const short = (x) => x.replace(/^ROLLBACK_[A-Z]+_/, '');
    return `${short(s.phase)} step ${s.step} ${short(s.stage)} weight ${s.weight_percent}${s.hold !== 'ROLLBACK_HOLD_UNSPECIFIED' ? ` hold ${short(s.hold)}` : ''} op ${short(s.op)} "${s.reason}"`;
  }

  verified(name) {
    return this.wait(`${name} to be verified`, (s) => s.versions.some((v) => v.name === name && v.state === 'VERSION_STATE_VERIFIED' && v.id === s.current_version), 60000);
  }

  // Capacity: of what HAProxy gives a share to, enough must run. Two looks in a row must say so: containers and weights are not read in one moment.
  watch() {
    let last = 0;
    const look = async () => {
      const at = Date.now();
      try {
        const [servers, found] = [await this.servers(), await this.place.all()];
        const running = new Set(found.filter((c) => c.running).map((c) => c.address));
        const serving = servers.filter((s) => !s.off && s.weight > 0);
        const all = serving.reduce((n, s) => n + s.weight, 0);
        const bad = [0, 1].filter((side) => {
          const mine = serving.filter((s) => s.side === side);
          const share = all ? mine.reduce((n, s) => n + s.weight, 0) / all : 0;
          const ready = mine.filter((s) => running.has(s.address)).length;
          return ready < Math.ceil(this.instances * share - 0.02);
        });
        const excused = this.excused.some(([from, to]) => at >= from && at <= to);
        if (excused || (bad.length === 0 && all > 0)) last = 0;
        else if (++last >= 3) this.low.push({ at, bad, all, state: this.text(), servers: serving, found: found.map((c) => [c.tag, c.running, c.address]) });
        this.looks = (this.looks ?? 0) + 1;
      } catch { last = 0; /* HAProxy is being restarted */ }
      if (!this.ended) this.next = setTimeout(look, 40);
    };
    look();
  }

  // ---- orders ----

  async order(verb, more = {}) {
    const body = encode('RollbackCommand', { deployment: 'mcp', by: 'test', reason: 'a test of the town', ...more });
    let said = '';
    return until(() => `the answer to ${verb}: ${said}`, async () => {
      try {
        const r = decode('CommandReply', (await this.nc.request(`redoubt.v1.cmd.rollback.${verb}`, body, { timeout: 5000 })).data);
        said = `${r.status} ${r.message}`;
        return r.status === 'COMMAND_STATUS_UNAVAILABLE' ? null : r; // nobody holds the lease at this moment: the same order again
      } catch (e) {
        said = e.message;
        return null;
      }
    }, 30000);
  }

  // ---- the learning data ----

  // A snapshot restores to the very bytes that stood there: what came later was only added behind them.
  snapshotHolds(snapshot) {
    const to = path.join(this.dir, `restored-${snapshot.slice(0, 8)}`);
    // A snapshot whose tags have changed has another id, and remembers the first.
    const found = JSON.parse(this.restic('snapshots', '--json')).find((x) => (x.original ?? x.id).startsWith(snapshot) || x.id.startsWith(snapshot));
    this.restic('restore', found.id, '--target', to);
    const was = fs.readFileSync(path.join(to, this.learn, 'learned.log')), is = fs.readFileSync(path.join(this.learn, 'learned.log'));
    return { bytes: was.length, now: is.length, same: was.length > 0 && is.subarray(0, was.length).equals(was) };
  }

  async close() {
    this.ended = true;
    clearTimeout(this.next);
    clearInterval(this.poll);
    if (this.load) await this.load.stop().catch(() => {});
    for (const i of [1, 2]) await this.kill(`rollback-${i}`).catch(() => {}); // else it would start what is taken away here
    await this.place.close();
    await this.dispose();
  }
}
