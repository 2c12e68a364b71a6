import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { consoleReport, percent } from '../train/report';
import { ConfigError, readSettings, type SettingName, type Settings } from '../train/config';
import { floors } from './floors';
import { addSettings, integerFrom } from './options';
import { count, table } from './output';
import { inspectCheckpoint } from './inspect';
import { interruptible, tellInterrupted } from './pretrain';
import type { Context } from './program';

/** Chosen so that two cores take under four minutes. */
const settings = {
  arch: 'resnet20',
  widths: [1, 0.75, 0.5, 0.25],
  epochs: 12,
  slowStart: 6,
  batch: 64,
  queue: 512,
  // The shape must stay in the picture, and colour must not give it away.
  cropMin: 0.4,
  grayP: 0.5,
  evalEvery: 6,
} satisfies Partial<Settings>;

const defaultOut = 'quickstart';

interface QuickstartOptions extends Partial<Settings> {
  out: string;
  pictures: number;
  testPictures: number;
  json: boolean;
}

export function addQuickstart(program: Command, context: Context): void {
  const command = program
    .command('quickstart')
    .summary('the whole way on generated pictures, in a few minutes')
    .description(
      'Generates labelled pictures of shapes, pre-trains one slimmable ResNet on them without looking at the labels, and ' +
        'prints what every width has learnt.',
    )
    .option('--out <dir>', `folder of pictures and run; an earlier ${defaultOut}/ is replaced`, defaultOut)
    .option('--pictures <n>', 'pictures to train on', integerFrom(2), 4000)
    .option('--test-pictures <n>', 'pictures to test on', integerFrom(1), 1000)
    .option('--json', 'print the result as one JSON object', false);
  const defaults = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)]));
  addSettings(
    command,
    [...(Object.keys(settings) as SettingName[]), 'precision', 'device', 'seed', 'threads'],
    defaults,
  );
  command.action(async ({ out, pictures, testPictures, json, ...chosen }: QuickstartOptions) => {
    const begin = performance.now();
    const report = consoleReport(context.output.terminal);
    const message = (text: string) => report({ type: 'message', text });
    const { evaluateCheckpoint, pretrain, readNetwork } = floors.train();
    const data = join(out, 'pictures');
    const lock = await floors.io().acquireRunLock(out);
    try {
      await makeRoom(out, data);
      message(`generating ${pictures} pictures of shapes to train on and ${testPictures} to test on, in ${data}`);
      await floors.data().writeShapes(data, { count: pictures, testCount: testPictures, seed: chosen.seed ?? 0 });
    } finally {
      lock.release();
    }

    const run = await interruptible(context, (signal) =>
      pretrain({ ...settings, ...chosen, data }, { out, signal, report }),
    );
    if (run.interrupted) {
      tellInterrupted(context, out, run);
      return;
    }
    const { checkpoint, untrained, knn, chance } = run;
    message('training a linear classifier on the frozen features of every width');
    const { device, threads } = chosen;
    const { accuracy: linear } = await evaluateCheckpoint({ linear: {} }, { checkpoint, data, device, threads });
    const widths = Object.entries(inspectCheckpoint(await readNetwork(checkpoint)).widths);
    const seconds = (performance.now() - begin) / 1000;
    if (json) {
      const costs = Object.fromEntries(widths.map(([width, { backbone }]) => [width, backbone]));
      context.output.out(JSON.stringify({ checkpoint, seconds, chance, widths: costs, untrained, knn, linear }));
      return;
    }
    const header = ['width', 'parameters', 'MACs', 'kNN untrained', 'kNN', 'linear'];
    const rows = widths.map(([width, { backbone }]) => [
      width,
      count(backbone.parameters),
      count(backbone.macs),
      ...[untrained, knn, linear].map((by) => (by ? percent(by[width]) : '-')),
    ]);
    context.output.out(`\n${table(header, rows)}`);
    context.output.out(`\nchance ${percent(chance!)}; ${Math.round(seconds)} s in all; checkpoint: ${checkpoint}`);
  });
}

/** Removes what an earlier quickstart left in its usual folder, and nothing that is somebody's own. */
async function makeRoom(out: string, data: string): Promise<void> {
  const { config, metrics, checkpoint } = floors.train().runFiles;
  const found = [config, checkpoint].map((name) => join(out, name)).find((file) => existsSync(file));
  if (found === undefined) return;
  if (out !== defaultOut || !wasMadeFrom(join(out, config), data)) {
    throw new ConfigError(
      `[quickstart] ${found}: the folder already holds a run or other files; choose another (--out)`,
    );
  }
  const files = [config, metrics, checkpoint].map((name) => join(out, name));
  for (const path of [data, ...files, ...floors.io().eventFiles(out)]) {
    await rm(path, { recursive: true, force: true });
  }
}

/** Whether a file holds the settings of a run on these pictures. */
function wasMadeFrom(config: string, data: string): boolean {
  try {
    return readSettings(config).data === resolve(data);
  } catch {
    return false;
  }
}
