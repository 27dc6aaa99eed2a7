// sweep.mjs - removes what killed tests have left: every project whose name begins with the prefix of this run.
import { api } from './engine.mjs';
import { sweep } from './compose.mjs';

const prefix = process.argv[2];
if (!prefix) throw new Error('sweep.mjs: whose projects? name the prefix');
const label = 'com.docker.compose.project';
const filters = encodeURIComponent(JSON.stringify({ label: [label] }));
const lists = await Promise.all([api('GET', `/containers/json?all=1&filters=${filters}`), api('GET', `/networks?filters=${filters}`), api('GET', `/volumes?filters=${filters}`).then((v) => v.Volumes ?? [])]);
const names = new Set(lists.flat().map((o) => o.Labels[label]).filter((n) => n.startsWith(`${prefix}-`)));
for (const n of names) await sweep(n);
