import { mount } from 'svelte';
import App from './App.svelte';
import './app.css';
import { locale } from './i18n/index.svelte';
import './markdown/prose.css';
import { router } from './state/router.svelte';
import { theme } from './state/theme.svelte';

theme.apply();
document.documentElement.lang = locale.lang;
router.listen();

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no #app');
mount(App, { target });
