// A lost password: only against the mock box, which has a stick that asks.

import assert from 'node:assert/strict';
import { RECOVERY_CODE } from '../../mock/box.mjs';
import { checkAxe } from './axe.mjs';
import { PASSWORD } from './entry.mjs';

const NEW = 'a louder pond at night';

export function recoverySteps({ url, desk }, { page, screenshot }, { composer }) {
  const button = (name) => page.getByRole('button', { name, exact: true });
  const title = (name) => page.getByRole('heading', { name, exact: true });
  const fill = async (code, password) => {
    await page.getByLabel('Recovery code').fill('');
    await page.getByLabel('Recovery code').pressSequentially(code.replace('-', '').toLowerCase());
    await page.getByLabel('Name').fill('mei');
    await page.getByLabel('New password').fill(password);
    await button('Set password and sign in').click();
  };
  const signOut = async () => {
    await page.goto(`${url}/settings/account`);
    await button('Sign out').click();
  };

  return [
    ['who has forgotten the password is told of the stick, in both languages', async () => {
      desk.plug(null);
      await signOut();
      await button('Forgot the password?').waitFor();
      await screenshot('sign-in-forgot');
      await button('Forgot the password?').click();
      await title('Set a new password').waitFor();
      await page.getByText('wels-recovery.txt').waitFor();
      for (const scheme of ['dark', 'light']) {
        await page.emulateMedia({ colorScheme: scheme });
        await screenshot(`recover-${scheme}`);
        await checkAxe(page, `recover, ${scheme}`);
      }
      await page.getByRole('button', { name: /简体中文/ }).click();
      await title('重设密码').waitFor();
      await page.getByText('wels-recovery.txt').waitFor();
      await screenshot('recover-zh');
      await page.setViewportSize({ width: 390, height: 844 });
      await screenshot('recover-phone-zh');
      await button('返回登录').click();
      await button('忘记密码？').waitFor();
      await screenshot('sign-in-forgot-zh');
      await page.setViewportSize({ width: 1280, height: 800 });
      await page.getByRole('button', { name: /English/ }).click();
    }],
    ['without the stick no code is right', async () => {
      await button('Forgot the password?').click();
      await fill(RECOVERY_CODE, NEW);
      await page.getByText('That is not the code this box shows.').waitFor();
      await screenshot('recover-refused');
      await button('Back to signing in').click();
      await button('Sign in').waitFor();
    }],
    ['with the stick in, the form is there at once, and its code lets in', async () => {
      desk.plug('recovery');
      await page.goto(url);
      await title('Set a new password').waitFor();
      await fill(RECOVERY_CODE, NEW);
      await composer.waitFor();
    }],
    ['the code is used up; the new password is right, the old one is not', async () => {
      await signOut();
      await button('Sign in').waitFor();
      for (const [password, isRight] of [[PASSWORD, false], [NEW, true]]) {
        await page.getByLabel('Name').fill('mei');
        await page.getByLabel('Password', { exact: true }).fill(password);
        await button('Sign in').click();
        await (isRight ? page.getByRole('link', { name: 'Back to chats' }) : page.getByText('Name and password do not match.')).waitFor();
      }
      assert.equal(await button('Sign in').count(), 0);
    }],
  ];
}
