"""Programs that train and run another library; they import nothing of this project, since each runs in its own venv."""
