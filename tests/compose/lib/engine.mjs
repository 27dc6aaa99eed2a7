// engine.mjs - the Docker engine that the compose tests use: asked over its socket, so that waiting costs no processes.
import { execFile } from 'node:child_process';
import http from 'node:http';

// tests/compose/run starts an engine of its own, or takes the one that is named here; images are there then.
export const host = process.env.REDOUBT_DOCKER_HOST;
export const noEngine = host ? undefined : 'no engine: tests/compose/run starts one, or name yours in REDOUBT_DOCKER_HOST';
export const tag = process.env.REDOUBT_TAG ?? 'latest';

// {code, out, err}; what cannot be started at all is an error.
export function command(program, args, { env = {}, timeout_ms = 180000, input } = {}) {
  return new Promise((done, failed) => {
    const child = execFile(program, args, { env: { ...process.env, DOCKER_HOST: host, ...env }, timeout: timeout_ms, maxBuffer: 64 << 20 }, (e, out, err) => {
      if (e?.killed) failed(new Error(`${program} ${args.join(' ')}: no end after ${timeout_ms} ms\n${out}${err}`));
      else if (e && typeof e.code !== 'number') failed(e);
      else done({ code: e ? e.code : 0, out, err });
    });
    child.stdin.end(input);
  });
}

export async function docker(...args) {
  const r = await command('docker', args);
  if (r.code) throw new Error(`docker ${args.join(' ')}: exit ${r.code}\n${r.out}${r.err}`);
  return r.out.trim();
}

// The engine's own API; JSON back, undefined for an empty answer. `status` that are no errors beside 2xx and 304.
export function api(method, path, { fine = [] } = {}) {
  const at = new URL(host.replace(/^unix:/, 'http:').replace(/^tcp:/, 'http:'));
  const where = host.startsWith('unix:') ? { socketPath: host.slice('unix://'.length) } : { host: at.hostname, port: at.port };
  return new Promise((done, failed) => {
    const r = http.request({ ...where, method, path }, (a) => {
      const parts = [];
      a.on('data', (d) => parts.push(d));
      a.on('error', failed);
      a.on('end', () => {
        const text = Buffer.concat(parts).toString();
        if (a.statusCode >= 300 && a.statusCode !== 304 && !fine.includes(a.statusCode)) failed(new Error(`engine: ${method} ${path}: ${a.statusCode} ${text}`));
        else {
          try { done(text ? JSON.parse(text) : undefined); } catch (e) { failed(new Error(`engine: ${method} ${path}: ${e.message}: ${text.slice(0, 200)}`)); }
        }
      });
    });
    r.on('error', failed);
    r.end();
  });
}

// Everything with this label, stopped or not, as the engine lists it.
export function labelled(kind, label) {
  const filters = encodeURIComponent(JSON.stringify({ label: [label] }));
  return api('GET', `/${kind}?${kind === 'containers/json' ? 'all=1&' : ''}filters=${filters}`);
}
