// engine.mjs - a private Docker engine, and images of the simulated agent that need nothing from the network.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { top } from './contract.mjs';
import { until } from './wait.mjs';

const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

// Why no engine can be had here; undefined = one can.
export function noEngine() {
  if (process.getuid() !== 0) return 'an engine of its own needs root';
  try {
    execFileSync('dockerd', ['--version'], { env, stdio: 'ignore' });
    execFileSync('haproxy', ['-v'], { env, stdio: 'ignore' });
    execFileSync('restic', ['version'], { env, stdio: 'ignore' });
  } catch (e) {
    return `not installed: ${e.path}`;
  }
  return undefined;
}

export class Engine {
  constructor() {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-engine-'));
    this.socket = path.join(this.dir, 'docker.sock');
    this.tags = new Map(); // image id -> version: who makes a container again may name its image otherwise
  }

  async start() {
    const log = fs.openSync(path.join(this.dir, 'dockerd.log'), 'a');
    const at = (name) => path.join(this.dir, name);
    // No rule of the host's firewall and no bridge of the host's own is touched: networks are made below.
    this.child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', 'dockerd', '-H', `unix://${this.socket}`, '--data-root', at('data'), '--exec-root', at('exec'),
      '-p', at('pid'), '--bridge=none', '--iptables=false', '--ip-masq=false'], { stdio: ['ignore', log, log], env });
    this.exited = once(this.child, 'exit');
    fs.closeSync(log);
    await until(() => `the engine to answer:\n${this.log()}`, () => this.call('GET', '/_ping').then((r) => r.status === 200, () => false), 60000);
    await this.ok('POST', '/networks/create', { Name: 'town' });
  }

  log() {
    return fs.readFileSync(path.join(this.dir, 'dockerd.log'), 'utf8').split('\n').slice(-15).join('\n');
  }

  call(method, url, body, type = 'application/json') {
    return new Promise((done, failed) => {
      const stream = body && typeof body.pipe === 'function';
      const r = http.request({ socketPath: this.socket, method, path: url, headers: body ? { 'content-type': stream ? 'application/x-tar' : type } : {} }, (a) => {
        const parts = [];
        a.on('data', (d) => parts.push(d));
        a.on('error', failed);
        a.on('end', () => {
          const text = Buffer.concat(parts).toString();
          let json;
          try { json = JSON.parse(text); } catch { /* streams of lines are read as text */ }
          done({ status: a.statusCode, text, json });
        });
      });
      r.on('error', failed);
      if (stream) body.pipe(r);
      else r.end(body ? JSON.stringify(body) : undefined);
    });
  }

  async ok(method, url, body) {
    const r = await this.call(method, url, body);
    if (r.status >= 300 && r.status !== 304) throw new Error(`docker: ${method} ${url}: ${r.status} ${r.text}`);
    return r.json;
  }

  // The program with the libraries that it needs, and curl for the health check. `versions`: tag -> arguments of `redoubt sim worker`.
  async images(versions) {
    const root = path.join(this.dir, 'root');
    const need = new Set();
    for (const program of [path.join(bin, 'redoubt'), '/usr/bin/curl']) {
      const out = execFileSync('ldd', [program], { encoding: 'utf8' });
      for (const m of out.matchAll(/(\/\S+) \(0x/g)) need.add(m[1]);
      need.add(program);
    }
    for (const file of need) {
      const to = path.join(root, file === path.join(bin, 'redoubt') ? '/bin/redoubt' : file);
      fs.mkdirSync(path.dirname(to), { recursive: true });
      fs.copyFileSync(fs.realpathSync(file), to);
      fs.chmodSync(to, 0o755);
    }
    const tar = path.join(this.dir, 'root.tar');
    execFileSync('tar', ['-C', root, '-cf', tar, '.']);
    fs.rmSync(root, { recursive: true });
    for (const [tag, args] of Object.entries(versions)) {
      const changes = [`ENTRYPOINT ${JSON.stringify(['/bin/redoubt', 'sim', 'worker', '--address', '0.0.0.0', '--port', '8080', '--control', '8081', '--version', tag, ...args])}`,
        `ENV AGENT_VERSION=${tag}`];
      const query = new URLSearchParams([['fromSrc', '-'], ['repo', 'town/agent'], ['tag', tag], ...changes.map((c) => ['changes', c])]);
      await this.ok('POST', `/images/create?${query}`, fs.createReadStream(tar));
      this.tags.set((await this.ok('GET', `/images/town/agent:${tag}/json`)).Id, tag);
    }
  }

  // One instance, as `docker run -d` makes it: its id.
  // A health check is a process in the container each time: not for dozens of them on two cores.
  async run(name, tag, { labels = {}, binds = [], health_ms = 0 } = {}) {
    const { Id } = await this.ok('POST', `/containers/create?name=${name}`, {
      Image: `town/agent:${tag}`, Labels: labels,
      ...(health_ms && { Healthcheck: { Test: ['CMD', '/usr/bin/curl', '-fsS', '-o', '/dev/null', 'http://127.0.0.1:8080/health'], Interval: health_ms * 1e6, Timeout: 10e9, Retries: 3 } }),
      HostConfig: { Binds: binds, NetworkMode: 'town' },
    });
    await this.ok('POST', `/containers/${Id}/start`);
    return Id;
  }

  list(filter = {}) {
    return this.ok('GET', `/containers/json?all=1&filters=${encodeURIComponent(JSON.stringify(filter))}`);
  }

  inspect(id) {
    return this.ok('GET', `/containers/${id}/json`);
  }

  kill(id) {
    return this.ok('POST', `/containers/${id}/kill?signal=KILL`);
  }

  remove(id) {
    return this.ok('DELETE', `/containers/${id}?force=1`);
  }

  async stop() {
    if (!this.child) return;
    try {
      for (const c of await this.list()) await this.remove(c.Id);
      await this.ok('DELETE', '/networks/town');
    } catch { /* it has ended */ }
    this.child.kill('SIGTERM');
    await this.exited;
    if (process.env.KEEP) return;
    try {
      fs.rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    } catch { /* a mount that is still busy: nothing of it is needed again */ }
  }
}
