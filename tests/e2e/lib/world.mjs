// world.mjs - what stands around the suite: LLM APIs, the backend, Slack, a mail server. Real protocols, failures on demand.
import http from 'node:http';
import { once } from 'node:events';
import { SMTPServer } from 'smtp-server';
import { freePort } from './stack.mjs';

async function body(req) {
  const parts = [];
  for await (const p of req) parts.push(p);
  return Buffer.concat(parts).toString();
}

// An HTTP server that can be taken away (connections cut, port closed) and brought back on the same port.
class Server {
  constructor(handler) {
    this.handler = handler;
    this.requests = [];
  }

  // `host`: an address of this machine; that of the first time is kept.
  async open(host) {
    this.host ??= host ?? '127.0.0.1';
    this.port ??= await freePort(this.host);
    this.server = http.createServer(async (req, res) => {
      try {
        const text = await body(req);
        this.requests.push({ method: req.method, url: req.url, headers: req.headers, body: text, at: Date.now() });
        await this.handler(req, res, text);
      } catch {
        res.destroy();
      }
    });
    this.server.listen(this.port, this.host);
    await once(this.server, 'listening');
    return this;
  }

  async close() {
    if (!this.server) return;
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
    this.server = null;
  }

  get url() {
    return `http://${this.host}:${this.port}`;
  }
}

// OpenAI-compatible chat completions. `mode` decides how it answers; see MODES.
export function llm(host) {
  const chunk = (delta, finish = null) => `data: ${JSON.stringify({ id: 'c1', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
  const whole = JSON.stringify({ id: 'c1', object: 'chat.completion', created: 1, model: 'm', choices: [{ index: 0, message: { role: 'assistant', content: 'ok' }, finish_reason: 'stop' }], usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } });
  const json = (res, code, text, extra = {}) => res.writeHead(code, { 'content-type': 'application/json', ...extra }).end(text);
  const s = new Server((req, res, text) => {
    let stream = false;
    try { stream = JSON.parse(text).stream === true; } catch { /* told by the answer */ }
    switch (s.mode ?? 'ok') {
      case 'ok':
        if (!stream) return json(res, 200, whole);
        res.writeHead(200, { 'content-type': 'text/event-stream' });
        res.write(chunk({ role: 'assistant', content: 'ok' }));
        res.write(chunk({}, 'stop'));
        return res.end('data: [DONE]\n\n');
      case '500': return json(res, 500, '{"error":{"message":"boom"}}');
      case '503': return json(res, 503, '{"error":{"message":"overloaded"}}');
      case '429': return json(res, 429, '{"error":{"message":"quota"}}', { 'retry-after': String(s.retryAfter ?? 2) });
      case '401': return json(res, 401, '{"error":{"message":"key"}}');
      case 'hang': return undefined;
      case 'truncated': res.writeHead(200, { 'content-type': 'application/json', 'content-length': 500 }); res.write('{"id":"c1","choi'); return setTimeout(() => res.destroy(), 20);
      case 'cut': res.writeHead(200, { 'content-type': 'text/event-stream' }); res.write(chunk({ content: 'o' })); return setTimeout(() => res.destroy(), 20);
      case 'schema': return json(res, 200, '{"answer":"ok"}');
      case 'garbage': return json(res, 200, '\u0000\u0001{{{');
      case 'wrong-type': return res.writeHead(200, { 'content-type': 'text/html' }).end('<h1>It works!</h1>');
      case 'huge': res.writeHead(200, { 'content-type': 'application/json' }); return res.end(`{"x":"${'y'.repeat(8 << 20)}"}`);
      case 'redirect': return res.writeHead(302, { location: 'http://127.0.0.1:1/' }).end();
      default: throw new Error(`no such mode: ${s.mode}`);
    }
  });
  return s.open(host);
}
export const LLM_FAILURES = ['500', '503', '429', 'hang', 'truncated', 'cut', 'schema', 'garbage', 'wrong-type', 'huge', 'redirect'];

// The agent's backend: health, and the override API with idempotency keys.
export function backend() {
  const s = new Server((req, res, text) => {
    if (s.mode === 'fail') return res.writeHead(500).end('{}');
    if (req.method === 'GET' && req.url === '/health') return res.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}');
    const m = /^\/api\/admin\/override\/(activate|deactivate)$/.exec(req.url);
    if (req.method !== 'POST' || !m) return res.writeHead(404).end('{}');
    let request;
    try { request = JSON.parse(text || '{}'); } catch { return res.writeHead(400).end('{}'); }
    const key = req.headers['idempotency-key'];
    if (m[1] === 'activate') {
      if (request.duration !== 3600000 || !request.justification) return res.writeHead(400).end('{"error":"duration and justification"}');
      if (!s.keys.has(key)) s.activations.push({ key, request, at: Date.now() });
      s.keys.add(key);
      s.active = key;
    } else {
      s.releases.push({ key, at: Date.now() });
      s.active = null;
    }
    return res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}');
  });
  Object.assign(s, { active: null, activations: [], releases: [], keys: new Set() });
  return s.open();
}

export function slack(host) {
  const s = new Server((_req, res, text) => {
    if (s.mode === '500') return res.writeHead(500).end('error');
    if (s.mode === '404') return res.writeHead(404).end('no_service');
    if (s.mode === '429') return res.writeHead(429, { 'retry-after': String(s.retryAfter ?? 1) }).end('rate_limited');
    const message = JSON.parse(text);
    if (!message.text) return res.writeHead(400).end('no_text');
    s.messages.push(message);
    return res.writeHead(200).end('ok');
  });
  s.messages = [];
  return s.open(host);
}

// A mail server by the `smtp-server` package. `mode`: accept, refuse-rcpt (550), busy (451).
export async function mail(host = '127.0.0.1') {
  const s = { messages: [], mode: 'accept', port: await freePort(host) };
  s.server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onRcptTo(address, _session, done) {
      if (s.mode === 'accept') return done();
      const e = new Error(s.mode === 'refuse-rcpt' ? 'no such user' : 'try later');
      e.responseCode = s.mode === 'refuse-rcpt' ? 550 : 451;
      return done(e);
    },
    onData(stream, session, done) {
      const parts = [];
      stream.on('data', (p) => parts.push(p));
      stream.on('end', () => {
        s.messages.push({ at: Date.now(), from: session.envelope.mailFrom.address, to: session.envelope.rcptTo.map((r) => r.address), text: Buffer.concat(parts).toString() });
        done();
      });
    },
  });
  s.server.on('error', () => {});
  await new Promise((done) => s.server.listen(s.port, host, done));
  s.close = () => new Promise((done) => s.server.close(done));
  s.url = `smtp://${host}:${s.port}`;
  return s;
}
