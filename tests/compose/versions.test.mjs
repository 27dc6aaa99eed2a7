// versions.test.mjs - the compose files and every overlay mean the same to each docker-compose that is here: 1.29, and v2 as program or plugin.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { top } from '../e2e/lib/contract.mjs';

function run(program, args) {
  return execFileSync(program[0], [...program.slice(1), ...args], { cwd: top, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 120000,
    env: { ...process.env, COMPOSE_PROFILES: '', REDOUBT_TAG: 'versions', REDOUBT_CONSUMERS: 'siem' } });
}

// By what it says of itself; each once. REDOUBT_COMPOSES adds more, separated by colons.
const found = new Map();
for (const program of [['docker-compose'], ['docker', 'compose'], ...(process.env.REDOUBT_COMPOSES ?? '').split(':').filter(Boolean).map((p) => p.split(' '))]) {
  try {
    found.set(run(program, ['version', '--short']).trim(), program);
  } catch { /* not here */ }
}
const skip = found.size ? undefined : 'docker-compose is not installed';

const dir = path.join(top, 'deploy/compose');
const overlays = fs.readdirSync(dir).filter((f) => f.endsWith('.yml')).sort();
// What is made to stand on another overlay.
const sets = [[], ...overlays.map((f) => [...(f.endsWith('-airgap.yml') ? [f.replace('-airgap.yml', '.yml')] : []), f])];

const lines = (text) => text.trim().split('\n').sort();
console.log(`| compose files read by | docker-compose ${[...found.keys()].join(', ') || '(none)'} |`);

for (const set of sets) {
  const files = ['-f', 'docker-compose.yml', ...set.flatMap((f) => ['-f', path.join('deploy/compose', f)])];
  test(`docker-compose.yml${set.map((f) => ` + ${f}`).join('')}`, { skip }, () => {
    const services = new Map();
    for (const [version, program] of found) {
      const config = run(program, [...files, '--profile', 'demo', '--profile', 'tools', 'config']);
      for (const must of ['health', 'audit', 'nats', 'redis', 'setup']) assert.match(config, new RegExp(`^ {2}${must}:$`, 'm'), `${version}: ${must}`);
      assert.doesNotMatch(config, /container_name:/, `${version}: containers have no names of their own, so that they can be scaled`);
      const ports = [...config.matchAll(/^\s+-? ?(?:host_ip: (\S+)|(\d[\d.]*):\d*:\d+(?:\/tcp)?$)/gm)].map((m) => m[1] ?? m[2]);
      assert.ok(ports.length > 0, `${version}: NATS is published`);
      assert.deepEqual(ports.filter((p) => p !== '127.0.0.1'), [], `${version}: nothing is published beyond loopback`);
      services.set(version, lines(run(program, [...files, '--profile', 'demo', '--profile', 'tools', 'config', '--services'])));
    }
    const [[first, those], ...others] = services;
    for (const [version, these] of others) assert.deepEqual(these, those, `the services of ${version} are those of ${first}`);
  });
}
