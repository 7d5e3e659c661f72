<?php
header('X-Worker-Version: ' . getenv('RELEASE'));
echo "ok\n";
