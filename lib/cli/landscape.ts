import type { Command } from 'commander';
import { consoleReport } from '../train/report';
import { floors } from './floors';
import { addSettings, integerFrom } from './options';
import type { Context } from './program';

const notes = `
The run must have been made with --keep-every, so that it kept at least three checkpoints (the last one counts). The plane
is the one in which the weights that the widths share went farthest: the first two principal components of their
differences to the last weights. On a grid in it, the training loss of every width is computed, always of the same pictures
and crops, with BatchNorm in training mode. The result, OUT/landscape.json, is drawn by slimclr report.

A point costs about a third of a training step; there are N x N. Ctrl-C ends it; nothing is written then.

Examples:
  $ slimclr pretrain --data photos --keep-every 5 --out run
  $ slimclr landscape --run run
  $ slimclr report run`;

interface LandscapeCliOptions {
  run: string;
  data?: string;
  grid: number;
  limit?: number;
  device?: string;
  threads?: number;
  json: boolean;
}

export function addLandscape(program: Command, { output: printer }: Context): void {
  const command = program
    .command('landscape')
    .summary('training loss around the way of the weights')
    .description(
      'Training loss of every width around the way of the weights, in the plane in which they went farthest.',
    )
    .requiredOption('--run <dir>', 'folder of the run, the --out of pretrain')
    .option('--data <dir>', 'folder of its pictures (default: where they were)')
    .option('--grid <n>', 'points along each axis', integerFrom(3), 15)
    .option('--limit <n>', "pictures to compute the loss on (default: the run's batch)", integerFrom(2));
  addSettings(command, ['device', 'threads'])
    .option('--json', 'print the result as one JSON object', false)
    .addHelpText('after', notes)
    .action(async ({ json, ...options }: LandscapeCliOptions) => {
      const report = consoleReport(printer.terminal);
      const { output, landscape } = await floors.train().landscape({ ...options, report });
      printer.out(json ? JSON.stringify({ output, ...landscape }) : `wrote ${output}`);
    });
}
