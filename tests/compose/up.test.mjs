// up.test.mjs - `docker compose up` as a user has it: quick, small, shut in; stopped and started again; servers late; settings wrong.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { encode, type } from '../e2e/lib/contract.mjs';
import { AIRGAP, SERVICES, Project, api, docker, noEngine, pause, tag, until, withProject } from './lib/compose.mjs';

const skip = noEngine;
const MB = 1000000;
const figure = (what, value) => console.log(`| ${what} | ${value} |`);
const all = [...SERVICES, 'nats', 'redis'];
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
