// up.test.mjs - `docker compose up` as a user has it: quick, small and shut in; stopped and started again without a loss.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';
import { ceHeaders, encode } from '../e2e/lib/contract.mjs';
import { SERVICES, api, docker, noEngine, tag, until, withProject } from './lib/compose.mjs';
import { addresses, gone, memory } from './lib/look.mjs';

const skip = noEngine;
const MB = 1000000;
const figure = (what, value) => console.log(`| ${what} | ${value} |`);
const ALL = [...SERVICES, 'nats', 'redis'];
const TOOLS = ['rollback', 'continuity'];

test('images are small: one layer of libraries that all share, a few MB on it', { skip }, async () => {
  const layers = async (image) => {
    const history = await api('GET', `/images/redoubt/${image}:${tag}/history`);
    return history.filter((l) => l.Size > 0).reverse(); // the base first
  };
  const named = (list) => list.find((l) => /libnats/.test(l.CreatedBy));
  const cli = await layers('cli');
  const libraries = named(cli);
  assert.ok(libraries.Size < 40 * MB, `the layer of libraries has ${libraries.Size} bytes`);
  figure('image: base', `${Math.round(cli[0].Size / MB)} MB`);
  figure('image: run-time libraries, shared', `${(libraries.Size / MB).toFixed(1)} MB`);
  const shared = async (image) => (await api('GET', `/images/redoubt/${image}:${tag}/json`)).RootFS.Layers;
  const first = await shared('cli');
  const own = {};
  for (const service of SERVICES) {
    const all = await layers(service), at = all.indexOf(named(all));
    assert.deepEqual((await shared(service)).slice(0, at + 1), first.slice(0, at + 1), `${service} stands on the same layers`);
    // The command comes first, for the health check: a layer that they share, too. The last is the service's own.
    own[service] = all.at(-1).Size;
    assert.match(all.at(-1).CreatedBy, new RegExp(`SERVICE|redoubt-${service}|file:`));
    assert.equal((await shared(service)).length, first.length + (TOOLS.includes(service) ? 2 : 1), `${service} has one layer of its own`);
    if (!TOOLS.includes(service)) assert.deepEqual((await shared(service)).slice(0, -1), first, `${service} stands on the command's image`);
    assert.ok(own[service] < 2 * MB, `${service} has ${own[service]} bytes of its own`);
    if (TOOLS.includes(service)) figure(`image: restic and git, below ${service}`, `${Math.round(all.find((l) => /restic/.test(l.CreatedBy)).Size / MB)} MB`);
  }
  figure('image: on top, per service', `${Object.entries(own).map(([s, n]) => `${s} ${(n / MB).toFixed(1)}`).join(', ')} MB`);
});
