import { join, resolve } from 'node:path';

/** Where the goldens are: SLIMCLR_GOLDENS, default ../shared/goldens beside the repository. It may be missing. */
export const goldenFolder = resolve(process.env.SLIMCLR_GOLDENS ?? join(__dirname, '../../../shared/goldens'));
