// replicas.mjs - replicas of services as processes of one stack, with a supervisor that starts again what has died, as Docker's restart policy does.
import fs from 'node:fs';
import path from 'node:path';
import { pause } from './wait.mjs';

const AGAIN_MS = 300; // how long the supervisor takes

export class Replicas {
  constructor(stack) {
    this.stack = stack;
    this.of = new Map(); // service -> names of processes that should run
    this.sizes = new Map(); // of logs, before the present process
    this.made = 0;
    this.over = false;
    this.failed = []; // who ended without being told to, or badly
  }

  names(service) {
    return this.of.get(service) ?? [];
  }

  // `which`, 0 <= n < 1, chooses who goes.
  async scale(service, n, which = 0.999) {
    const names = this.names(service);
    this.of.set(service, names);
    while (names.length < n) this.start(service, names);
    const going = [];
    while (names.length > n) going.push(...names.splice(Math.floor(which * names.length), 1));
    await Promise.all(going.map(async (name) => {
      const end = await this.stack.kill(name, 'SIGTERM');
      // Between its exec and its first line nobody hears a signal.
      if (end.code !== 0 && !(end.signal === 'SIGTERM' && this.silent(name))) this.failed.push(`${name} was told to end, and ended with ${JSON.stringify(end)}`);
    }));
  }

  start(service, names) {
    const name = `${service}.${++this.made}`;
    const { command, args } = this.stack.procs.get(service);
    this.stack.define(name, command, args);
    names.push(name);
    this.supervise(name, names);
  }

  async supervise(name, names) {
    const log = path.join(this.stack.dir, 'log', `${name}.log`);
    for (;;) {
      this.sizes.set(name, fs.existsSync(log) ? fs.statSync(log).size : 0);
      this.stack.run(name);
      const end = await this.stack.procs.get(name).exited;
      if (this.over || !names.includes(name)) return;
      if (end.signal !== 'SIGKILL') this.failed.push(`${name} ended by itself: ${JSON.stringify(end)}`);
      await pause(AGAIN_MS);
      if (this.over || !names.includes(name)) return;
    }
  }

  // Has its present process said nothing yet?
  silent(name) {
    return fs.statSync(path.join(this.stack.dir, 'log', `${name}.log`)).size === this.sizes.get(name);
  }

  async kill(service, which) {
    const names = this.names(service);
    const name = names[Math.floor(which * names.length)];
    if (this.stack.running(name)) this.stack.procs.get(name).child.kill('SIGKILL');
    return name;
  }

  // All of them, by SIGTERM.
  async stop() {
    this.over = true;
    for (const service of this.of.keys()) await this.scale(service, 0);
  }

  // What every process has logged at this level: lines.
  lines(level) {
    const dir = path.join(this.stack.dir, 'log');
    return fs.readdirSync(dir).flatMap((f) => fs.readFileSync(path.join(dir, f), 'utf8').split('\n').filter((l) => l.includes(`level=${level}`)).map((l) => `${f}: ${l}`));
  }
}
