// npm run test:device: everything that can be checked on a CUDA machine, one table at the end.
//
// Environment: SLIMCLR_TEST_DEVICE (default cuda:0), SLIMCLR_TEST_SEED, SLIMCLR_GOLDENS, SLIMCLR_TEST_MINUTES (default 9): what
// has not begun by then is listed as left out, what has not ended is stopped and has failed. What a GPU alone can show comes
// first.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { markdownTable, requireDevice, root, showResults, timeLeft, writeResults } from './report';

const device = process.env.SLIMCLR_TEST_DEVICE ?? 'cuda:0';
// One that hangs shall leave time for the others.
const longestStep = 300_000;
const mocha = join(root, 'node_modules/mocha/bin/mocha.js');
const cli = join(root, 'dist/lib/cli/main.js');
const onDevice = ['-r', './test/device/default-device.cjs'];

interface Result {
  what: string;
  passed: boolean | null;
  seconds: number;
  says: string;
}
const results: Result[] = [];
const info = requireDevice(device);

function summary(): [string, object, string] {
  const rows = results.map(({ what, passed, seconds, says }) => [
    what,
    passed === null ? '–' : passed ? 'passed' : '**failed**',
    seconds.toFixed(0),
    says.replaceAll('|', '/'),
  ]);
  return [
    'test-device',
    { date: new Date().toISOString(), device: info, results },
    `${info['name']}, CUDA ${info['CUDA']}, cuDNN ${info['cuDNN']}\n\n${markdownTable(['check', '', 's', 'says'], rows)}`,
  ];
}

function step(what: string, check: () => string): void {
  const start = Date.now();
  let passed: boolean | null = null;
  let says = 'left out: no time left';
  if (timeLeft() > 0) {
    console.error(`\n== ${what}`);
    try {
      says = check();
      passed = says.startsWith('left out') ? null : true;
    } catch (error) {
      passed = false;
      says = (error as Error).message;
    }
  }
  results.push({ what, passed, seconds: (Date.now() - start) / 1000, says });
  writeResults(...summary());
}

/** Runs a command, its output shown; throws or returns its last two lines that match. */
function run(command: string, args: readonly string[], pattern: RegExp, env: NodeJS.ProcessEnv = {}): string {
  const timeout = Math.max(1000, Math.min(timeLeft(), longestStep));
  const done = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 2 ** 28,
    timeout,
    killSignal: 'SIGKILL',
  });
  const output = `${done.stdout}${done.stderr}`;
  console.error(output.slice(-20_000));
  const lines = output.split('\n').filter((line) => pattern.test(line));
  const last = lines
    .slice(-2)
    .map((line) => line.replaceAll('=========', '').trim())
    .join('; ');
  if (done.error) throw new Error(`stopped after ${(timeout / 1000).toFixed(0)} s: ${done.error.message}`);
  if (done.signal) throw new Error(`ended by ${done.signal} ${last}`);
  if (done.status !== 0) throw new Error(last || `exit code ${String(done.status)}`);
  return last;
}

function test(args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const says = run(process.execPath, [mocha, ...args], /^tests: /, env);
  return says.startsWith('tests: 0 passed') ? `left out: no test ran (${says})` : says;
}

/** The losses of a short pre-training on generated pictures. */
function losses(on: string, data: string, out: string): number[] {
  const settings = ['--arch', 'resnet20', '--epochs', '4', '--slow-start', '2', '--batch', '32', '--queue', '256'];
  run(process.execPath, [cli, 'pretrain', '--data', data, ...settings, '--device', on, '--out', out], /./);
  return readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { loss?: number })
    .flatMap(({ loss }) => (loss === undefined ? [] : [loss]));
}

function trainOnBoth(): string {
  const folder = mkdtempSync(join(tmpdir(), 'slimclr-device-'));
  try {
    const data = join(folder, 'pictures');
    const generate = 'require("./dist/lib/data").writeShapes(process.argv[1], { count: 256, testCount: 32, seed: 1 })';
    run(process.execPath, ['-e', `(async () => { await ${generate}; })()`, data], /./);
    const [cpu, cuda] = ['cpu', device].map((on) => losses(on, data, join(folder, on.replace(':', ''))));
    if (cpu.length === 0 || cpu.length !== cuda.length) throw new Error('the runs logged different numbers of losses');
    const worst = Math.max(...cpu.map((loss, i) => Math.abs((cuda[i] ?? NaN) - loss) / loss));
    if (!(worst < 0.05)) throw new Error(`the losses differ by up to ${(100 * worst).toFixed(1)} %`);
    return `${cpu.length} losses, at most ${(100 * worst).toFixed(2)} % apart`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The own kernels under a tool of compute-sanitizer, on the cases that launch each of them. */
function sanitize(tool: string): string {
  const names = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'];
  const sanitizer = names.find((name) => spawnSync(name, ['--version']).status === 0);
  if (!sanitizer) return 'left out: there is no compute-sanitizer';
  const cases =
    'batchNorm, bfloat16, 48|maxPool|AvgPool|default recipe|sgd|lars|adamw|clip|enqueue|mocov2|knn|distill|indexSelect';
  const words = ['--tool', tool, '--error-exitcode', '9'];
  // The libraries try calls that may fail; those of our own are checked where they are made.
  if (tool === 'memcheck') words.push('--report-api-errors', 'no');
  words.push(process.execPath, mocha, '--config', '.mocharc.device.cjs', '--grep', cases);
  const says = run(sanitizer, words, /ERROR SUMMARY|RACECHECK SUMMARY|^tests: /);
  if (!/tests: [1-9]/.test(says)) throw new Error(`no test ran under it: ${says}`);
  return says;
}

step('every op against the CPU', () => test(['--config', '.mocharc.device.cjs']));
step('training steps recorded and one by one, on CUDA', () => test([...onDevice, 'test/train/training-step.test.ts']));
step("the released implementation's numbers on CUDA", () => test([...onDevice, '--config', '.mocharc.parity.cjs']));
step('ops, networks, optimizers and methods on CUDA', () =>
  test([...onDevice, ...['tensor', 'nn', 'optim', 'methods'].map((folder) => `test/${folder}/*.test.ts`)]),
);
step('training on both devices', trainOnBoth);
step('compute-sanitizer memcheck', () => sanitize('memcheck'));
step('compute-sanitizer racecheck', () => sanitize('racecheck'));
step('the suite on the CPU', () => test([], { CUDA_VISIBLE_DEVICES: '' }));

showResults(...summary());
process.exit(results.every(({ passed }) => passed !== false) ? 0 : 1);
