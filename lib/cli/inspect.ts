import type { Command } from 'commander';
import type { Arch } from '../nn';
import type { StoredNetwork } from '../train';
import { ConfigError, resolveConfig } from '../train/config';
import { floors } from './floors';
import { addSettings, integerFrom } from './options';
import { count, table } from './output';
import type { Context } from './program';

interface InspectOptions {
  checkpoint?: string;
  arch?: Arch;
  widths?: number[];
  image?: number;
  stem?: 'cifar' | 'imagenet';
  baseWidth?: number;
  classes?: number;
  json: boolean;
}

const notes = `
"backbone" is the network up to its pooled features. The other parameters and MACs count what stands on it, too: of a
checkpoint its projector, of an architecture a linear classifier. MACs are multiply-accumulates for one picture.

Examples:
  $ slimclr inspect --arch resnet50
  $ slimclr inspect --checkpoint run/checkpoint.safetensors --json`;

export function addInspect(program: Command, { output }: Context): void {
  const command = program
    .command('inspect')
    .summary('widths, parameters and MACs of a checkpoint or an architecture')
    .description('Widths, parameters and multiply-accumulates of a checkpoint or of an architecture.')
    .option('--checkpoint <file>', "a run's checkpoint.safetensors, or an imported one");
  addSettings(command, ['arch', 'widths', 'image', 'stem', 'baseWidth'], {
    arch: null,
    image: '32 with the cifar stem, else 224; of a checkpoint its own',
  })
    .option('--classes <n>', 'of the classifier (default: 1000, at 64 pixels or fewer 10)', integerFrom(1))
    .option('--json', 'print the result as one JSON object', false)
    .addHelpText('after', notes)
    .action(async (options: InspectOptions) => {
      const { checkpoint: file, arch, json } = options;
      if ((file === undefined) === (arch === undefined)) throw new ConfigError('give either --checkpoint or --arch');
      const network = file === undefined ? null : await floors.train().readNetwork(file);
      const info = network ? inspectCheckpoint(network, options) : inspectArch(options);
      if (json) {
        output.out(JSON.stringify(info));
        return;
      }
      for (const [name, value] of Object.entries(info)) {
        if (name !== 'widths')
          output.out(`${name}: ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`);
      }
      const header = ['width', 'parameters', 'MACs', 'backbone parameters', 'backbone MACs', 'features'];
      const rows = Object.entries(info.widths).map(([width, w]) => [
        width,
        ...[w.parameters, w.macs, w.backbone.parameters, w.backbone.macs].map(count),
        String(w.features),
      ]);
      output.out(`\n${table(header, rows)}`);
    });
}

/** What `inspect` tells of a checkpoint. */
export function inspectCheckpoint(
  { file, options: network, views, run, source }: StoredNetwork,
  options: Partial<InspectOptions> = {},
) {
  for (const name of ['widths', 'stem', 'baseWidth', 'classes'] as const) {
    if (options[name] !== undefined) throw new ConfigError(`--${name} goes with --arch; a checkpoint has its own`);
  }
  const { arch, stem, baseWidth, head } = network;
  const image = options.image ?? views.image;
  return {
    checkpoint: file,
    ...(run && { method: run.config.method }),
    arch,
    stem,
    baseWidth,
    image,
    head,
    ...(run && {
      step: run.progress.step,
      epoch: run.progress.step / run.progress.stepsPerEpoch,
      epochs: run.config.epochs,
    }),
    ...(source && { imported: source }),
    widths: floors.nn().networkCosts(network, image),
  };
}

function inspectArch({ arch, widths, stem, baseWidth, image, classes }: InspectOptions) {
  const chosen = resolveConfig({ data: '.', arch, widths, stem, baseWidth, image }, 224);
  const side = image ?? (chosen.stem === 'cifar' ? 32 : 224);
  const outDim = classes ?? (side <= 64 ? 10 : 1000);
  const network = {
    arch: chosen.arch,
    widths: chosen.widths,
    stem: chosen.stem,
    baseWidth: chosen.baseWidth,
    head: 'supervised',
    outDim,
  } as const;
  return {
    arch,
    stem: chosen.stem,
    image: side,
    head: `classifier of ${outDim}`,
    widths: floors.nn().networkCosts(network, side),
  };
}
