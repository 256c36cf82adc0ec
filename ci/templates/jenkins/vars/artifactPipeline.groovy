// Test, build and deploy of a Django project; docs/ci.md has every option and variable.
void call(Map options = [:]) {
    Map given = [
        // Runs the tests, in a virtualenv with the requirements.
        test: 'python manage.py test',
        // The requirements file that the tests need.
        requirements: 'requirements.txt',
        // Installs the artifact; has ARTIFACT_PATH, ARTIFACT_DIGEST and ARTIFACT_VERSION.
        deploy: 'artifact install "$ARTIFACT_PATH" --digest "$ARTIFACT_DIGEST"',
        // Label of the agent that deploys, best the server's own.
        deployOn: 'production',
        // Label of the agents that test and build.
        label: 'python',
        // For docker: the servers' distribution and Python. Empty: on the agent itself.
        image: '',
        // What pip installs where the agent has no artifact.
        tool: 'single-artifact',
    ] + options

    on(given) {
        checkout scm
        stage('test') {
            try {
                sh """
                    python3 -m venv .venv
                    . .venv/bin/activate
                    pip install --quiet -r ${given.requirements}
                    ${given.test}
                """
            } finally {
                junit allowEmptyResults: true, testResults: 'reports/*.xml'
            }
        }
        stage('build') {
            sh """
                command -v artifact >/dev/null || pip install --quiet ${given.tool}
                mkdir -p dist
                artifact build --json >dist/build.json
                artifact ci report dist/build.json --dotenv dist/artifact.env --last .cache/last.json >dist/summary.md
                . dist/artifact.env
                test -z "\$ARTIFACT_STORE_URL" || artifact push "\$ARTIFACT_PATH"
            """
            archiveArtifacts artifacts: 'dist/'
            stash name: 'dist', includes: 'dist/'
        }
    }
    if (env.CHANGE_ID) {
        return
    }
    stage('deploy') {
        input message: "Install it on ${given.deployOn}?"
        node(given.deployOn) {
            unstash 'dist'
            sh """
                set -a
                . dist/artifact.env
                ${given.deploy}
            """
        }
    }
}

private void on(Map given, Closure body) {
    node(given.label) {
        if (given.image) {
            docker.image(given.image).inside { body() }
        } else {
            body()
        }
    }
}
