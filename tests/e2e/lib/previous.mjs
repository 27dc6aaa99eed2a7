// previous.mjs - the previous commit: its contract and consumers, and its programs where they were built (tests/previous).
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { top } from './contract.mjs';

const at = process.env.REDOUBT_PREVIOUS_DIR ?? path.join(top, 'build/previous');

// {dir, commit}: where the previous commit's tree is; or {why}: there is none.
export function previousTree() {
  try {
    execFileSync(path.join(top, 'tests/previous'), [path.dirname(at)], { cwd: top, stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (e) {
    return { why: `the previous commit cannot be taken out: ${e.stderr}` };
  }
  const commit = read('commit');
  return commit ? { dir: path.join(at, 'tree'), commit } : { why: read('why') ?? 'there is no previous commit here' };
}

// {bin}: where its programs are; or {why}.
export function previousPrograms() {
  const bin = process.env.REDOUBT_PREVIOUS_BIN ?? path.join(at, 'bin');
  if (fs.existsSync(path.join(bin, 'redoubt-fallback'))) return { bin };
  return { why: read('why') ?? 'the programs of the previous commit were not built: tests/previous build programs' };
}

function read(name) {
  try {
    return fs.readFileSync(path.join(at, name), 'utf8').trim();
  } catch {
    return undefined;
  }
}
