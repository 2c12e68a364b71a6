import type { Command } from 'commander';
import { floors } from './floors';
import type { Context } from './program';

const notes = `
The page shows losses, kNN accuracy and learning rate over the epochs, accuracy over parameters and MACs, the settings in
full and, of a run with --diagnose-every, how the widths disturb each other, whether embeddings collapse, and the way of
the weights; after slimclr landscape, the training loss around that way. It needs no network and holds no scripts. A run may still be going on.

Examples:
  $ slimclr pretrain --data photos --diagnose-every 50 --out run
  $ slimclr report run`;

export function addReport(program: Command, { output: printer }: Context): void {
  program
    .command('report')
    .summary('a run as one page of HTML, with plots')
    .description('Draws what a run has logged, as one self-contained page of HTML.')
    .argument('<dir>', 'folder of the run')
    .option('--output <file>', 'file to write (default: report.html in the folder of the run)')
    .option('--json', 'print what was written as one JSON object', false)
    .addHelpText('after', notes)
    .action(async (folder: string, { output, json }: { output?: string; json: boolean }) => {
      const written = await floors.report().writeReport(folder, output);
      for (const remark of written.remarks) printer.err(remark);
      printer.out(json ? JSON.stringify(written) : `wrote ${written.output}`);
    });
}
