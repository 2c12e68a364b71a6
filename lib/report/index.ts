/** A run as a page: what config.json and metrics.jsonl hold, drawn. */
import { join } from 'node:path';
import { atomicWrite } from '../io';
import { page } from './page';
import { readRun } from './run-folder';

export { ReportError } from './run-folder';

/**
 * Writes the report of a run, one self-contained HTML file.
 * @param folder of the run, finished or not
 * @param output default: `report.html` in the folder
 * @returns the file, and what a reader should know of the run's files, in sentences
 * @throws ReportError, ConfigError, JsonlError where the run's files are missing, damaged or of something else; WriteError
 */
export async function writeReport(
  folder: string,
  output = join(folder, 'report.html'),
): Promise<{ output: string; remarks: string[] }> {
  const run = readRun(folder);
  await atomicWrite(output, [Buffer.from(page(run))]);
  return { output, remarks: run.remarks };
}
