import type { Command } from 'commander';
import { floors } from './floors';
import { addSettings } from './options';
import { count } from './output';
import type { Context } from './program';
import type { ImportOptions } from '../train';

const notes = `
FILE is what torch.save wrote, since PyTorch 1.6 (a zip archive) or before (a stream). It is read as data: no Python is
needed and nothing in it is executed; a file that asks for more than weights is refused.

The output keeps all tensors of the state dict under their names (module.encoder_q.*, module.queue, …). Architecture,
widths, base width and head are told from names and shapes; inspect, embed, eval, export and pretrain --init take it.

Example:
  $ slimclr import slimclr_r50_mocov2.pth.tar --output r50.safetensors`;

export function addImport(program: Command, { output: printer }: Context): void {
  const command = program
    .command('import')
    .summary('turn a released PyTorch checkpoint into a safetensors file')
    .description('Turns a released PyTorch checkpoint into a safetensors file.')
    .argument('<file>', 'checkpoint: FILE.pth.tar')
    .requiredOption('--output <file>', 'safetensors file to write');
  addSettings(command, ['image', 'recipe'], {
    image: '32 with the cifar stem, else 224',
    recipe: 'cifar with the cifar stem, else mocov2',
  })
    .option('--json', 'print what was found as one JSON object', false)
    .addHelpText('after', notes)
    .action(async (file: string, { output, json, ...views }: ImportOptions & { output: string; json: boolean }) => {
      const { options, views: pictures, source, weights } = await floors.train().importCheckpoint(file, output, views);
      const { arch, stem, widths, baseWidth, head, outDim, mlpDim } = options;
      const { recipe, image } = pictures;
      const found = { output, arch, stem, widths, baseWidth, head, outDim, mlpDim, recipe, image, source };
      const elements = [...weights.values()].reduce((sum, { data }) => sum + data.length, 0);
      printer.err(`wrote ${output}: ${weights.size} tensors of the network, ${count(elements)} numbers`);
      if (json) return printer.out(JSON.stringify(found));
      for (const [name, value] of Object.entries(found)) {
        if (value === undefined) continue;
        printer.out(`${name}: ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`);
      }
    });
}
