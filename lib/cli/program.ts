import { Command, CommanderError } from 'commander';
import { ConfigError } from '../train/config';
import { printable } from '../train/printable';
import { addBench } from './bench';
import { addDoctor } from './doctor';
import { addEmbed } from './embed';
import { addEval } from './eval';
import { addExport } from './export';
import { addImport } from './import';
import { addInspect } from './inspect';
import { addLandscape } from './landscape';
import type { Output } from './output';
import { version } from '../package-root';
import { addPretrain } from './pretrain';
import { addQuickstart } from './quickstart';
import { addReport } from './report';

const description =
  'Self-supervised pre-training of slimmable networks (SlimCLR): one network, trained once without labels, that runs at ' +
  'several widths.';

const notes = `
Examples:
  $ slimclr quickstart                                     generated pictures, a few minutes, no data needed
  $ slimclr pretrain --data photos --out run               your own pictures
  $ slimclr pretrain --out run --resume                    go on after Ctrl-C or a crash
  $ slimclr eval knn --checkpoint run/checkpoint.safetensors --data photos
  $ slimclr report run                                     what a run has logged, drawn on a page
  $ slimclr inspect --arch resnet50                        parameters and MACs of every width

Results go to standard output, progress to standard error.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (and saved).
SLIMCLR_DEBUG=1 adds the stack to an error.`;

/** What a command may do beside its work. */
export interface Context {
  output: Output;
  /** Ends the program with this code, where it is neither 0 nor an error. */
  setExitCode: (code: number) => void;
}

function createProgram(context: Context): Command {
  const { output } = context;
  const program = new Command('slimclr')
    .description(description)
    .version(version(), '-V, --version', 'print the version')
    .addHelpText('after', notes)
    .configureOutput({
      writeOut: (text) => output.out(text.replace(/\n$/, '')),
      writeErr: (text) => output.err(text.replace(/\n$/, '')),
    })
    .showHelpAfterError('(--help shows the options)')
    .exitOverride();
  for (const add of [
    addQuickstart,
    addPretrain,
    addEval,
    addEmbed,
    addImport,
    addExport,
    addInspect,
    addLandscape,
    addReport,
    addBench,
    addDoctor,
  ])
    add(program, context);
  return program;
}

/**
 * Runs one command line.
 * @param args without the program's name
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted
 */
export async function run(args: readonly string[], printer: Output): Promise<number> {
  let exitCode = 0;
  const output: Output = {
    out: (text) => printer.out(printable(text)),
    err: (text) => printer.err(printable(text)),
    terminal: printer.terminal, // what is drawn there moves the cursor; see consoleReport
  };
  const program = createProgram({ output, setExitCode: (code) => (exitCode = code) });
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has printed it
    output.err(`error: ${error instanceof Error ? error.message : String(error)}`);
    if (process.env.SLIMCLR_DEBUG && error instanceof Error) output.err(error.stack ?? '');
    return error instanceof ConfigError ? 2 : 1;
  }
}
