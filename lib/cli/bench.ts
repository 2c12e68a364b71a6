import type { Command } from 'commander';
import { floors } from './floors';
import { addSettings, integerFrom } from './options';
import { table } from './output';
import type { Context } from './program';
import type { BenchOptions } from '../train';
import { resolveConfig, type SettingName, type Settings } from '../train/config';

interface Options extends Partial<Settings> {
  steps: number;
  warmup: number;
  json: boolean;
}

const examples = `
Examples:
  $ slimclr bench step --arch resnet18 --image 32 --batch 64 --precision bf16
  $ slimclr bench loss --batch 256 --queue 65536 --json
  $ slimclr bench conv --arch resnet20 --batch 64`;

const defaults = {
  arch: 'resnet20',
  image: '32, with the imagenet stem 224',
  stem: 'cifar up to 64 pixels, else imagenet',
  batch: '64',
  queue: '4096',
  dim: '128',
} as const;

const names = ['arch', 'widths', 'image', 'stem', 'batch', 'queue', 'dim', 'precision', 'device', 'threads'] as const;

export function addBench(program: Command, context: Context): void {
  const group = program
    .command('bench')
    .summary('speed of a training step, the loss or the convolutions on this machine')
    .description('Speed on this machine: medians of repeated runs on random pictures.')
    .addHelpText('after', examples);
  // All take the same options, so that one set of them serves for a comparison of all three.
  const add = (name: string, description: string, ...more: SettingName[]) =>
    addSettings(group.command(name).description(description), [...names, ...more], defaults)
      .option('--steps <n>', 'timed repetitions', integerFrom(1), 10)
      .option('--warmup <n>', 'repetitions before them', integerFrom(0), 3)
      .option('--json', 'print the result as one JSON object', false);

  add(
    'step',
    'A training step in both phases: the full network alone (slow start) and all widths (slim).',
    'eager',
  ).action(async (options: Options) => {
    const result = await floors.train().benchStep(settle(options));
    print(
      context,
      options.json,
      result,
      ['phase', 'ms/step', 'images/s'],
      [
        ['slow start', result.slow_start.ms.toFixed(1), result.slow_start.images_per_s.toFixed(1)],
        ['slim', result.slim.ms.toFixed(1), result.slim.images_per_s.toFixed(1)],
      ],
    );
  });

  add(
    'loss',
    'The distillation and InfoNCE loss of all widths alone, with its gradient, in float32. It depends on widths, batch, ' +
      'queue and dim only.',
  ).action(async (options: Options) => {
    const result = await floors.train().benchLoss(settle(options));
    print(context, options.json, result, ['', 'ms'], [['loss and gradient', result.ms.toFixed(2)]]);
  });

  add(
    'conv',
    'Every distinct convolution of a network at every width, in GFLOP/s. Does not depend on queue and dim.',
  ).action(async (options: Options) => {
    const result = await floors.train().benchConv(settle(options));
    const rows = result.layers.map((l) => [
      `${l.in}->${l.out} ${l.kernel}x${l.kernel}/${l.stride} at ${l.size}x${l.size} (width ${l.width})`,
      ...[l.forward, l.backward_data, l.backward_weight].map((speed) => speed.toFixed(0)),
    ]);
    print(context, options.json, result, ['convolution', 'forward', 'data gradient', 'weight gradient'], rows);
  });
}

/** The benchmark's own defaults: small pictures and a batch that fits anywhere. */
function settle({ steps, warmup, json: _, ...settings }: Options): BenchOptions {
  const image = settings.image ?? (settings.stem === 'imagenet' ? 224 : 32);
  const config = resolveConfig({ ...settings, data: '.', image }, image);
  const { arch, stem, widths, dim, precision, eager, device: name, threads } = config;
  const { device } = floors.train().prepareDevice({ device: name, threads, precision });
  const [batch, queue] = [settings.batch ?? 64, settings.queue ?? 4096];
  return { arch, stem, widths, image, batch, queue, dim, precision, device, eager, steps, warmup };
}

function print({ output }: Context, json: boolean, result: object, header: string[], rows: string[][]): void {
  output.out(json ? JSON.stringify(result) : table(header, rows));
}
