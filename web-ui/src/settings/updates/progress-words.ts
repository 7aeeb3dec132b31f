/** What is under way, in people's words. */

import type { InstalledVersion, UpdateAction, UpdateProgress, UpdateStep } from '../../api';
import type { UpdateWords } from '../../i18n/updates/en';

type Words = { t: UpdateWords; count: (n: number) => string };

/** An installation's, in their order. */
const STEPS: readonly UpdateStep[] = ['prepare', 'copy', 'check', 'settle', 'test', 'switch'];
/** Before these have begun an action can be stopped. */
const LAST: ReadonlySet<UpdateStep> = new Set(['test', 'switch', 'done']);

/** What is being done, or how it ended. */
export function headline(progress: UpdateProgress, { t, count }: Words): string {
  const { action, kind, title, version, step, error } = progress;
  const what = [title, count(version)] as const;
  if (error?.code === 'cancelled' && action === 'install') return t.installStopped;
  if (error) {
    return {
      install: t.installFailed(...what), rollback: t.goBackFailed(...what), backup: t.backupFailed, restore: t.restoreFailed,
    }[action];
  }
  if (step !== 'done') {
    return { install: t.installing(...what), rollback: t.goingBack(...what), backup: t.backingUp, restore: t.restoring }[action];
  }
  const answers = kind === 'model';
  return {
    install: answers ? t.installed(...what) : t.installedSystem(...what),
    rollback: answers ? t.wentBack(...what) : t.wentBackSystem(...what),
    backup: t.backedUp,
    restore: t.restored,
  }[action];
}

/** The step, as people understand it. */
export function stepWords({ action, kind, step }: UpdateProgress, t: UpdateWords): string {
  const special: Partial<Record<`${UpdateAction}.${UpdateStep}`, string>> = {
    'backup.copy': t.stepCopyBackup,
    'backup.check': t.stepCheckBackup,
    'restore.check': t.stepCheckRestore,
    'restore.switch': t.stepSwitchRestore,
  };
  const ordinary: Record<UpdateStep, string> = {
    prepare: t.stepPrepare, copy: t.stepCopy, check: t.stepCheck, settle: t.stepSettle,
    test: kind === 'model' ? t.stepTestModel : t.stepTest, switch: t.stepSwitch, done: '',
  };
  return special[`${action}.${step}`] ?? ordinary[step];
}

/** "Step 2 of 6", for an installation. */
export function stepNumber({ action, step }: UpdateProgress, { t, count }: Words): string | null {
  return action === 'install' && step !== 'done' ? t.stepOf(count(STEPS.indexOf(step) + 1), count(STEPS.length)) : null;
}

/** Whether a wish to stop can still be met. */
export function canStop({ action, step }: UpdateProgress): boolean {
  return action !== 'rollback' && !LAST.has(step);
}

/** A version as one string, for a row. */
export function nameOf(version: InstalledVersion, { t, count }: Words): string {
  return `${version.title} · ${t.version(count(version.version))}`;
}
