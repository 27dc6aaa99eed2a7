// consumers.mjs - the example consumers as processes, and what they have told.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { top } from './contract.mjs';

const at = (...p) => path.join(top, 'deploy/examples', ...p);

// What to run for each, made below `dir`: JavaScript with the packages that are there for the tests, C as its Makefile builds it.
export function build(dir) {
  const js = path.join(dir, 'consumer-js');
  fs.mkdirSync(js);
  fs.copyFileSync(at('consumer-js/consumer.mjs'), path.join(js, 'consumer.mjs'));
  fs.symlinkSync(path.join(top, 'tests/node_modules'), path.join(js, 'node_modules'));
  const out = execFileSync('make', ['-s', '-C', at('consumer-c'), `OUT=${path.join(dir, 'consumer-c')}`, 'CFLAGS=-O1 -Werror'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (out) throw new Error(`the example does not build cleanly:\n${out}`);
  return { js: ['node', [path.join(js, 'consumer.mjs')]], c: [path.join(dir, 'consumer-c/consumer'), []] };
}

// Lines of a consumer: which are one change each, in JSON. Nothing else may be on standard output.
export function changes(text) {
  return text.split('\n').filter(Boolean).map((l) => JSON.parse(l));
}

export class Consumer {
  constructor([command, args], env) {
    Object.assign(this, { out: '', err: '' });
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], { env: { ...process.env, PROTO: path.join(top, 'proto'), ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout.on('data', (d) => { this.out += d; });
    this.child.stderr.on('data', (d) => { this.err += d; });
    this.ended = once(this.child, 'close').then(([code, signal]) => ({ code, signal }));
  }

  get told() { return changes(this.out.slice(0, this.out.lastIndexOf('\n') + 1)); }
  get running() { return this.child.exitCode === null && this.child.signalCode === null; }

  stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    return this.ended;
  }
}
