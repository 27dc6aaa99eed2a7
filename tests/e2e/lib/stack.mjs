// stack.mjs - a private suite: nats-server, redis-server and services as processes on free loopback ports.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { connect } from 'nats';
import { createClient } from 'redis';
import { top } from './contract.mjs';
import { until } from './wait.mjs';

const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');
export const SERVICES = ['audit', 'alert', 'breaker', 'fallback', 'guard', 'health'];

export async function freePort() {
  const s = net.createServer().listen(0, '127.0.0.1');
  await once(s, 'listening');
  const { port } = s.address();
  await new Promise((done) => s.close(done));
  return port;
}

// Debian keeps daemons in sbin, which a plain user's PATH may lack.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

export class Stack {
  constructor(name) {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), `redoubt-${name}-`));
    this.procs = new Map(); // name -> {child, command, args, exits}
    this.clients = [];
  }

  // `settings(ports)` gives the text of redoubt.yaml below its nats/redis/data_dir part.
  async start(settings, { services = SERVICES, redisArgs = [] } = {}) {
    this.natsPort = await freePort();
    this.redisPort = await freePort();
    for (const d of ['nats', 'redis', 'data', 'log']) fs.mkdirSync(path.join(this.dir, d));
    this.config = path.join(this.dir, 'redoubt.yaml');
    this.writeSettings(settings);
    this.prepare();
    this.define('nats', 'nats-server', [...this.natsArgs(), '-a', '127.0.0.1', '-p', String(this.natsPort), '-js', '-sd', path.join(this.dir, 'nats')]);
    this.define('redis', 'redis-server', [...this.redisArgs(), '--bind', '127.0.0.1', '--port', String(this.redisPort), '--dir', path.join(this.dir, 'redis'),
      '--appendonly', 'yes', '--save', '', ...redisArgs]);
    for (const s of [...SERVICES, 'continuity', 'rollback']) this.define(s, path.join(bin, `redoubt-${s}`), ['-c', this.config]);
    this.run('nats');
    this.run('redis');
    await this.ready();
    for (const s of services) this.run(s);
  }

  writeSettings(text) {
    fs.writeFileSync(this.config, `nats: { url: "nats://127.0.0.1:${this.natsPort}" }
redis: { host: 127.0.0.1, port: ${this.redisPort} }
data_dir: ${path.join(this.dir, 'data')}
log: { level: ${process.env.LOG ?? "info"} }
tilt_hold: 1s
${text}`);
  }

  // What a stack with rights (lib/rights.mjs) does otherwise: files before the start, how the servers begin, who a process is.
  prepare() {}
  natsArgs() { return []; }
  redisArgs() { return []; }
  envOf() { return {}; }

  async ready() {
    for (const port of [this.natsPort, this.redisPort]) await until(`port ${port} to open`, () => portOpen(port));
  }

  define(name, command, args) {
    this.procs.set(name, { command, args, child: null });
  }

  // Every process dies with this one, however this one dies.
  run(name) {
    const p = this.procs.get(name);
    const log = fs.openSync(path.join(this.dir, 'log', `${name}.log`), 'a');
    p.child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', p.command, ...p.args], { stdio: ['ignore', log, log], env: { ...env, ...this.envOf(name) } });
    p.exited = once(p.child, 'exit').then(([code, signal]) => ({ code, signal }));
    fs.closeSync(log);
    return p.child;
  }

  pid(name) {
    return this.procs.get(name).child.pid;
  }

  running(name) {
    const c = this.procs.get(name)?.child;
    return c && c.exitCode === null && c.signalCode === null;
  }

  async kill(name, signal = 'SIGKILL') {
    const p = this.procs.get(name);
    if (!this.running(name)) return p.exited;
    p.child.kill(signal);
    return p.exited;
  }

  log(name) {
    return fs.readFileSync(path.join(this.dir, 'log', `${name}.log`), 'utf8');
  }

  // The operator's command; {code, out, err}.
  cli(args) {
    return new Promise((done, failed) => {
      execFile(path.join(bin, 'redoubt'), args, { env: { ...env, ...this.envOf('cli'), REDOUBT_CONFIG: this.config }, timeout: 60000 }, (e, out, err) => {
        if (e && typeof e.code !== 'number') failed(e);
        else done({ code: e ? e.code : 0, out, err });
      });
    });
  }

  async nats(name = 'test') {
    const nc = await connect({ servers: `127.0.0.1:${this.natsPort}`, name, maxReconnectAttempts: -1, reconnectTimeWait: 100, waitOnFirstConnect: true });
    this.clients.push(() => nc.close());
    return nc;
  }

  async redis() {
    const c = createClient({ socket: { host: '127.0.0.1', port: this.redisPort, reconnectStrategy: 100 } });
    c.on('error', () => {});
    await c.connect();
    this.clients.push(() => c.disconnect());
    return c;
  }

  // Ends services by SIGTERM, then the servers; gives how each service ended.
  async stop() {
    for (const close of this.clients.splice(0)) await Promise.resolve(close()).catch(() => {});
    const ends = {};
    for (const s of ['continuity', 'rollback', 'health', 'guard', 'fallback', 'breaker', 'alert', 'audit'])
      if (this.running(s)) {
        ends[s] = this.kill(s, 'SIGTERM');
      }
    for (const s of Object.keys(ends)) {
      const end = await ends[s];
      ends[s] = end;
    }
    for (const s of ['redis', 'nats']) await this.kill(s, 'SIGTERM');
    return ends;
  }

  async dispose() {
    for (const close of this.clients.splice(0)) await Promise.resolve(close()).catch(() => {});
    for (const name of this.procs.keys()) await this.kill(name).catch(() => {});
    if (!process.env.KEEP) fs.rmSync(this.dir, { recursive: true, force: true });
  }

  // The last lines of every log, for a failure's message.
  tails(n = 15) {
    return [...this.procs.keys()].filter((p) => fs.existsSync(path.join(this.dir, 'log', `${p}.log`)))
      .map((p) => `--- ${p}\n${tail(this.log(p), n)}`).join('\n');
  }
}

// A crash says what happened at its beginning, and everything else at its end.
function tail(text, n) {
  const lines = text.trimEnd().split('\n');
  const crash = lines.findIndex((l) => /^(panic:|fatal error:)|ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|WARNING: ThreadSanitizer/.test(l));
  return (crash >= 0 ? lines.slice(crash, crash + 3 * n) : lines.slice(-n)).join('\n');
}

export function portOpen(port) {
  return new Promise((done) => {
    const s = net.connect(port, '127.0.0.1');
    s.once('connect', () => { s.destroy(); done(true); });
    s.once('error', () => done(false));
  });
}

// Runs `body(stack)` on a fresh stack and cleans up; a failure shows the logs' ends.
export async function withStack(name, settings, body, options) {
  const stack = new (options?.Stack ?? Stack)(name);
  const text = typeof settings === 'function' ? settings(stack) : settings;
  try {
    await stack.start(text, options);
    return await body(stack);
  } catch (e) {
    e.message += `\n${stack.tails()}`;
    throw e;
  } finally {
    await stack.dispose();
  }
}
