import { Option, type Command } from 'commander';
import { floors } from './floors';
import { width } from './options';
import { count } from './output';
import type { Context } from './program';

const notes = `
The output holds an ordinary ResNet of that width: weights cut to its channels, and its own BatchNorm. Names are those of
torchvision (conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, fc); a projector stands in fc (fc.0, fc.2, …). The
metadata "network" says what has to be built. In Python:
  model.load_state_dict(safetensors.torch.load_file("small.safetensors"))

Example:
  $ slimclr export --checkpoint run/checkpoint.safetensors --width 0.25 --output small.safetensors`;

interface ExportOptions {
  checkpoint: string;
  width: number;
  output: string;
  json: boolean;
}

export function addExport(program: Command, { output: printer }: Context): void {
  program
    .command('export')
    .summary('one width of a checkpoint as a stand-alone network')
    .description("Writes one width of a checkpoint as a stand-alone network, under torchvision's names.")
    .requiredOption('--checkpoint <file>', "a run's checkpoint.safetensors, or an imported one")
    .option('--width <w>', 'width of the network to write', width, 1)
    .addOption(new Option('--format <name>', 'format of the output').choices(['safetensors']).default('safetensors'))
    .requiredOption('--output <file>', 'file to write')
    .option('--json', 'print what was written as one JSON object', false)
    .addHelpText('after', notes)
    .action(async ({ checkpoint, width, output, json }: ExportOptions) => {
      const { tensors, description } = await floors.train().exportNetwork(checkpoint, width, output);
      const numbers = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
      printer.err(`wrote ${output}: ${tensors.size} tensors, ${count(numbers)} numbers`);
      if (json) printer.out(JSON.stringify({ output, ...description, tensors: tensors.size }));
      else for (const [name, value] of Object.entries(description)) printer.out(`${name}: ${String(value)}`);
    });
}
