// look.mjs - what the kernel says of a project's processes: the engine runs on this host.
import fs from 'node:fs';
import { api } from './engine.mjs';

const read = (file) => {
  try { return fs.readFileSync(file, 'utf8'); } catch { return ''; } // it has just ended
};

// /proc/PID/status as {name: value}.
export function status(pid) {
  return Object.fromEntries(read(`/proc/${pid}/status`).split('\n').filter(Boolean).map((l) => [l.slice(0, l.indexOf(':')), l.slice(l.indexOf(':') + 1).trim()]));
}

// {rss, pss, of: {service: rss}} in bytes, over every process of every container that runs.
export async function memory(project) {
  const sum = { rss: 0, pss: 0, of: {} };
  for (const c of (await project.containers()).filter((x) => x.state === 'running')) {
    const { Processes } = await api('GET', `/containers/${c.id}/top?ps_args=-eo%20pid`);
    for (const [pid] of Processes) {
      const text = read(`/proc/${pid}/smaps_rollup`), kb = (what) => Number(text.match(new RegExp(`^${what}:\\s+(\\d+) kB`, 'm'))?.[1] ?? 0) * 1024;
      sum.rss += kb('Rss');
      sum.pss += kb('Pss');
      sum.of[c.service] = (sum.of[c.service] ?? 0) + kb('Rss');
    }
  }
  return sum;
}
