// Keys, a new system, backups and the box's own state: only against the mock box. The last step empties it.

import assert from 'node:assert/strict';
import { STRANGER } from '../../mock/sticks.mjs';
import { PASSPHRASE } from '../../mock/updates.mjs';
import { PASSWORD } from './entry.mjs';
import { updatePartsOf } from './update-parts.mjs';

export function boxSteps(target, browser) {
  const parts = updatePartsOf(target, browser);
  return [...trustSteps(target, browser, parts), ...backupSteps(target, browser, parts), ...lastSteps(target, browser, parts)];
}

/** Whom the box believes, and what then comes. */
function trustSteps({ desk }, { page, screenshot }, { main, button, heading, confirm, gotIt, picture, pictures }) {
  return [
    ['a key that the box does not know is shown, added, and removed', async () => {
      desk.plug('stranger');
      await main.getByText(STRANGER.fingerprint).first().waitFor();
      await main.locator('summary', { hasText: 'Add a key' }).click();
      const text = page.getByLabel('Text of the public key’s file');
      await text.fill('{"role":"release","name":"x","secret_key":"00"}');
      await main.getByText(/This is a secret key!/).waitFor();
      await text.fill('no key');
      await main.getByText(/This is no public key/).waitFor();
      assert.ok(await button('Believe this key').isDisabled());
      const file = JSON.stringify({ role: 'release', name: STRANGER.name, public_key: STRANGER.public_key });
      await page.locator('input[type=file]').setInputFiles({ name: 'haus.pub', mimeType: 'text/plain', buffer: Buffer.from(file) });
      await main.getByText('It calls itself “Haus am See, IT”.').waitFor();
      await pictures('updates-stranger');
      await button('Believe this key').click();
      await main.getByText('Haus am See, IT (added on this box)').first().waitFor();
      await button('Install').waitFor();
      await button('Remove the key of Haus am See, IT').click();
      await confirm('Remove');
      await button('Remove the key of Haus am See, IT').waitFor({ state: 'detached' });
    }],
    ['a system waits for a restart, and the page comes back by itself', async () => {
      desk.plug('system');
      await button('Install').click();
      await heading('Wels 0.2.0, version 2, is in place').waitFor();
      await main.getByText('Another system version is in place.').first().waitFor();
      await picture('updates-system-en');
      await gotIt();
      desk.change({ fell_back: { version: '0.1.9', reason: 'no token was generated within 300 s' } });
      await main.getByText('System version 0.1.9 did not start well').waitFor();
      await button('Restart').first().click();
      await confirm('Restart');
      await main.getByText('The box restarts. This page comes back by itself.').waitFor();
      await screenshot('updates-restarting');
      await main.getByText('The box restarts.').waitFor({ state: 'detached' });
      await main.getByText('Another system version is in place').waitFor({ state: 'detached' });
    }],
  ];
}

/** To a stick and back. */
function backupSteps({ desk }, { page, screenshot }, { main, button, heading, confirm, gotIt, pictures }) {
  return [
    ['a backup wants a passphrase twice', async () => {
      desk.plug('model');
      await main.getByText('This stick can’t be written to.').waitFor();
      desk.plug('backups');
      await page.getByLabel('Passphrase', { exact: true }).fill('too short');
      await page.getByLabel('The same passphrase again').fill('too short');
      await button('Write a backup').click();
      await main.getByText('The passphrase needs at least 12 characters.').waitFor();
      await page.getByLabel('Passphrase', { exact: true }).fill(PASSPHRASE);
      await button('Write a backup').click();
      await main.getByText('The two passphrases differ.').waitFor();
      await pictures('updates-backup');
      await page.getByLabel('The same passphrase again').fill(PASSPHRASE);
      await button('Write a backup').click();
      await heading('The backup is on the stick').waitFor();
      await gotIt();
      await main.getByText('wels-backup-2026-11-26.age').waitFor();
    }],
    ['a restore replaces everything, and everyone signs in again', async () => {
      await button('Restore wels-backup-2026-08-03.age').click();
      const passphrase = page.getByLabel('Passphrase of the backup');
      await passphrase.fill('not the passphrase');
      await screenshot('updates-restore');
      await confirm('Replace everything');
      await main.getByText('This passphrase does not open the backup.').waitFor();
      await gotIt();
      await button('Restore wels-backup-2026-08-03.age').click();
      await passphrase.fill(PASSPHRASE);
      await confirm('Replace everything');
      await page.getByRole('button', { name: 'Sign in' }).waitFor();
      await page.getByLabel('Name').fill('mei');
      await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await gotIt();
    }],
  ];
}

/** Who may not, and the end. */
function lastSteps({ desk, claimCode }, { page, screenshot }, { main, button, heading, confirm, open, pictures }) {
  return [
    ['on somebody’s own computer there are no sticks, no restart and no reset', async () => {
      desk.change({ appliance: false, stick: null });
      await main.getByText(/it watches no sticks/).waitFor();
      for (const name of ['Backup', 'Restart and reset']) assert.equal(await heading(name).count(), 0, name);
      await pictures('updates-computer');
      desk.change({ appliance: true });
    }],
    ['a member sees nothing of it', async () => {
      await page.route('**/api/state', async (route) => {
        const response = await route.fetch();
        const state = await response.json();
        await route.fulfill({ response, json: { ...state, user: { ...state.user, role: 'user' } } });
      });
      desk.plug('model');
      await open();
      await heading('Account').waitFor();
      assert.equal(await page.getByRole('link', { name: /Updates|New on the stick/ }).count(), 0);
      await page.unroute('**/api/state');
    }],
    ['a factory reset wants the password and the words, then the box is claimed anew', async () => {
      await open();
      await button('Factory reset').click();
      const dialog = page.getByRole('dialog');
      await dialog.getByLabel('Your password').fill('not the password');
      assert.ok(await dialog.getByRole('button', { name: 'Forget everything' }).isDisabled());
      await dialog.getByLabel(/^Type/).fill('forget everything');
      await confirm('Forget everything');
      await dialog.getByText('That is not your password.').waitFor();
      await screenshot('updates-reset');
      await dialog.getByLabel('Your password').fill(PASSWORD);
      await confirm('Forget everything');
      await main.getByText('The box forgets everything and restarts.').waitFor();
      await page.getByLabel('Claim code').waitFor();
      await page.getByLabel('Claim code').fill(claimCode);
      await page.getByLabel('Name').fill('mei');
      await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
      await page.getByRole('button', { name: 'Claim this box' }).click();
      await main.getByRole('navigation', { name: 'Settings' }).waitFor();
    }],
  ];
}
